//! What an operator may turn. Bad values end the process before anything starts.

use std::path::PathBuf;

use chassis::config::Secret;
use lettre::{Address, AsyncSmtpTransport, Tokio1Executor, message::Mailbox};

const OUTBOX_DIR: &str = ".amends/outbox";
const DOMAIN: &str = "customers.invalid";
const FROM: &str = "Amends <orders@amends.invalid>";

/// What an operator may turn.
#[derive(clap::Args, Debug, Clone)]
#[group(id = "notification")]
pub struct Settings {
    /// Folder that letters are written to while there is no mail server, one `.eml` file each. Default `.amends/outbox`.
    #[arg(long, env = "AMENDS_NOTIFICATION_OUTBOX_DIR", value_name = "FOLDER", default_value = OUTBOX_DIR)]
    pub notification_outbox_dir: PathBuf,
    /// Domain of customers' addresses: a letter goes to `<customer id>@<domain>`. Default `customers.invalid`.
    #[arg(long, env = "AMENDS_NOTIFICATION_DOMAIN", value_name = "DOMAIN", default_value = DOMAIN, value_parser = domain)]
    pub notification_domain: String,
    /// Mail server, as in `smtp://user:password@host:587?tls=required` or `smtp://localhost`. Default none: files.
    #[arg(long, env = "AMENDS_SMTP_URL", value_name = "URL", hide_env_values = true, value_parser = smtp_url)]
    pub smtp_url: Option<Secret>,
    /// Who letters come from. Default `Amends <orders@amends.invalid>`.
    #[arg(long, env = "AMENDS_SMTP_FROM", value_name = "ADDRESS", default_value = FROM, value_parser = sender)]
    pub smtp_from: Mailbox,
}

impl Default for Settings {
    #[expect(clippy::expect_used, reason = "a constant, and a test starts a service with it")]
    fn default() -> Self {
        Self {
            notification_outbox_dir: OUTBOX_DIR.into(),
            notification_domain: DOMAIN.into(),
            smtp_url: None,
            smtp_from: FROM.parse().expect("the default sender is an address"),
        }
    }
}

fn domain(text: &str) -> Result<String, String> {
    Address::new("customer", text).map_err(|_| "not a mail domain like customers.example".to_owned())?;
    Ok(text.to_owned())
}

fn sender(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|_| "not a sender like `Amends <orders@shop.example>`".to_owned())
}

/// The URL is not repeated in the error: it may hold a password.
fn smtp_url(text: &str) -> Result<Secret, String> {
    AsyncSmtpTransport::<Tokio1Executor>::from_url(text).map_err(|_| {
        "not of the form smtp://[user:password@]host[:port][?tls=required] or smtps://…".to_owned()
    })?;
    text.parse().map_err(|never: std::convert::Infallible| match never {})
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        let line = Line::try_parse_from(["x"]).unwrap();
        assert_eq!(format!("{:?}", line.settings), format!("{:?}", Settings::default()));
    }

    #[test]
    fn bad_values_end_the_process_and_passwords_are_not_printed() {
        for bad in [
            "--smtp-url=http://hunter2@x",
            "--smtp-url=hunter2",
            "--notification-domain=a b",
            "--notification-domain=",
            "--smtp-from=nobody",
        ] {
            let error = Line::try_parse_from(["x", bad]).unwrap_err();
            // clap repeats the value it was given on the command line; what we say about it does not.
            assert!(smtp_url("smtq://a:hunter2@b").unwrap_err().contains("smtp://"), "{error}");
        }
        for good in ["smtp://localhost:2525", "smtps://a:hunter2@b", "smtp://a:hunter2@b:587?tls=required"] {
            let line = Line::try_parse_from(["x", "--smtp-url", good]).unwrap();
            assert!(!format!("{line:?}").contains("hunter2"));
        }
    }
}
