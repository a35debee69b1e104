//! What an operator may turn. Bad values end the process before anything starts.

use std::{path::PathBuf, time::Duration};

use lettre::{Address, message::Mailbox};

use crate::SmtpUrl;

const OUTBOX_DIR: &str = ".amends/outbox";
const DOMAIN: &str = "customers.invalid";
const FROM: &str = "Amends <orders@amends.invalid>";

/// What an operator may turn.
#[derive(clap::Args, Debug, Clone)]
#[group(id = "notification")]
pub struct Settings {
    /// Folder that letters are written to while there is no mail server, an mbox file for each day. Default `.amends/outbox`.
    #[arg(long, env = "AMENDS_NOTIFICATION_OUTBOX_DIR", value_name = "FOLDER", default_value = OUTBOX_DIR)]
    pub notification_outbox_dir: PathBuf,
    /// Domain of customers' addresses: a letter goes to `<customer id>@<domain>`. Default `customers.invalid`.
    #[arg(long, env = "AMENDS_NOTIFICATION_DOMAIN", value_name = "DOMAIN", default_value = DOMAIN, value_parser = domain)]
    pub notification_domain: String,
    /// Mail server: `smtps://user:password@host`, `smtp://user:password@host?tls=required` or, without a password,
    /// `smtp://localhost`; a port may follow the host. Default none: files.
    #[arg(long, env = "AMENDS_SMTP_URL", value_name = "URL", hide_env_values = true)]
    pub smtp_url: Option<SmtpUrl>,
    /// Who letters come from. Default `Amends <orders@amends.invalid>`.
    #[arg(long, env = "AMENDS_SMTP_FROM", value_name = "ADDRESS", default_value = FROM, value_parser = sender)]
    pub smtp_from: Mailbox,
    /// How long the mail server may take for one letter before it counts as away, as in `30s`. Default 30 s.
    #[arg(long, env = "AMENDS_SMTP_TIMEOUT", value_name = "TIME", default_value = "30s",
        value_parser = humantime::parse_duration)]
    pub smtp_timeout: Duration,
    /// How often a letter is tried before it counts as failed. Default 200: four days, once waits are at their longest.
    #[arg(long, env = "AMENDS_NOTIFICATION_ATTEMPTS", value_name = "N", default_value_t = 200,
        value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub notification_attempts: i32,
    /// Wait after the first attempt that failed, as in `5s`; it doubles with each, up to half an hour. Default 5 s.
    #[arg(long, env = "AMENDS_NOTIFICATION_BACKOFF", value_name = "TIME", default_value = "5s",
        value_parser = humantime::parse_duration)]
    pub notification_backoff: Duration,
    /// How long a letter in the hands of a sender that died stays there, on top of twice the mail server's limit, before
    /// another one takes it. Default 30 s.
    #[arg(long, env = "AMENDS_NOTIFICATION_MARGIN", value_name = "TIME", default_value = "30s",
        value_parser = humantime::parse_duration)]
    pub notification_margin: Duration,
}

impl Default for Settings {
    #[expect(clippy::expect_used, reason = "a constant, and a test starts a service with it")]
    fn default() -> Self {
        Self {
            notification_outbox_dir: OUTBOX_DIR.into(),
            notification_domain: DOMAIN.into(),
            smtp_url: None,
            smtp_from: FROM.parse().expect("the default sender is an address"),
            smtp_timeout: Duration::from_secs(30),
            notification_attempts: 200,
            notification_backoff: Duration::from_secs(5),
            notification_margin: Duration::from_secs(30),
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
            "--smtp-url=http://a:hunter2@x",
            "--smtp-url=hunter2",
            "--smtp-url=smtp://a:hunter2@mail.example",
            "--notification-domain=a b",
            "--notification-domain=",
            "--notification-attempts=0",
            "--smtp-from=nobody",
        ] {
            let error = Line::try_parse_from(["x", bad]).unwrap_err().to_string();
            let flag = bad.split_once('=').unwrap().0;
            assert!(error.contains(flag) && !error.contains("hunter2"), "{error}");
        }
        let line = Line::try_parse_from(["x", "--smtp-url", "smtps://a:hunter2@b"]).unwrap();
        assert!(!format!("{line:?}").contains("hunter2"));
    }
}
