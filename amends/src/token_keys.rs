//! The keys that payment tokens are encrypted with, as the command line names them.
//!
//! The orchestrator encrypts a token at its door, payment-svc opens it where the provider is called; nobody between them,
//! and no row, message or dump, shows it. `amends up` keeps a key in its data folder; single services are given one, or
//! do not start. Read next: `chassis::keyring`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, anyhow};
use chassis::{config::Secret, keyring::Keyring};
use clap::Args;

use crate::{data_dir::DataDir, host::Usage};

/// Where the keys are.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenKeys {
    /// The keys that payment tokens are encrypted with: the first encrypts, all decrypt. A key is 64 hexadecimal digits
    /// (openssl rand -hex 32). The orchestrator and payment-svc need the same
    #[arg(long, env = "AMENDS_TOKEN_KEY", value_name = "ID:KEY,…", hide_env_values = true)]
    token_key: Option<Secret>,
    /// A file that holds them; it goes before what is given in words
    #[arg(long, env = "AMENDS_TOKEN_KEY_FILE", value_name = "FILE")]
    token_key_file: Option<PathBuf>,
}

impl TokenKeys {
    fn given(&self) -> anyhow::Result<Option<Keyring>> {
        // Compose hands an empty variable through where none is set.
        let given = self.token_key.as_ref().filter(|key| !key.expose().is_empty());
        let (text, whence) = match (given, &self.token_key_file) {
            (_, Some(file)) => {
                let text = fs::read_to_string(file);
                let text =
                    text.with_context(|| format!("cannot read {} (AMENDS_TOKEN_KEY_FILE)", file.display()))?;
                (text, format!("{} (AMENDS_TOKEN_KEY_FILE)", file.display()))
            }
            (Some(key), None) => (key.expose().to_owned(), "AMENDS_TOKEN_KEY (--token-key)".to_owned()),
            (None, None) => return Ok(None),
        };
        let keys = text.parse().map_err(|error| Usage(format!("{whence}: {error}")))?;
        Ok(Some(keys))
    }

    /// The keys of a service that does not start without.
    pub(crate) fn needed(&self, service: &str) -> anyhow::Result<Keyring> {
        self.given()?.ok_or_else(|| {
            let text = format!(
                "`amends {service}` needs the key that payment tokens are encrypted with: set AMENDS_TOKEN_KEY=id:key \
                 (openssl rand -hex 32) or AMENDS_TOKEN_KEY_FILE, the same for the orchestrator and payment-svc"
            );
            anyhow!(Usage(text))
        })
    }

    /// The keys that are given, or else the one that the data folder keeps.
    pub(crate) fn or_kept(&self, data: &DataDir) -> anyhow::Result<Keyring> {
        if let Some(keys) = self.given()? {
            return Ok(keys);
        }
        let (text, file) = data.token_key()?;
        text.parse().with_context(|| {
            format!("{} does not hold a key; charges under way cannot be sent without it", file.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        keys: TokenKeys,
    }

    fn keys(line: &str) -> TokenKeys {
        Line::try_parse_from(line.split_whitespace()).unwrap().keys
    }

    #[test]
    fn keys_are_given_in_words_or_in_a_file_and_a_bad_one_names_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let key = "0b".repeat(32);
        fs::write(&file, format!("new:{key}\nold:{key}\n")).unwrap();
        let from_file = format!("x --token-key-file {}", file.display());
        assert_eq!(format!("{:?}", keys(&from_file).needed("payment").unwrap()), r#"["new", "old"]"#);
        let given = keys(&format!("x --token-key a:{key}"));
        assert_eq!(format!("{:?}", given.needed("payment").unwrap()), r#"["a"]"#);
        assert!(!format!("{given:?}").contains("0b0b"));

        let missing = keys("x").needed("payment").unwrap_err();
        assert!(missing.is::<Usage>() && missing.to_string().contains("AMENDS_TOKEN_KEY"), "{missing}");
        let bad = keys("x --token-key a:geheim").needed("payment").unwrap_err().to_string();
        assert!(bad.contains("--token-key") && !bad.contains("geheim"), "{bad}");
        let nowhere = keys("x --token-key-file /nowhere/at/all").needed("payment").unwrap_err();
        assert!(nowhere.to_string().contains("AMENDS_TOKEN_KEY_FILE"), "{nowhere}");
    }

    #[test]
    fn a_data_folder_keeps_a_key_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::lock(folder.path()).unwrap();
        let text = keys("x").or_kept(&data).unwrap().encrypt(b"a", "s");
        assert_eq!(keys("x").or_kept(&data).unwrap().decrypt(b"a", &text).unwrap(), "s");
        let mode = fs::metadata(folder.path().join("token.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join("token.key"), "half").unwrap();
        assert!(keys("x").or_kept(&data).unwrap_err().to_string().contains("token.key"));
    }
}
