//! Where the mail server is and how it knows us. The URL holds a password: nothing here shows it, not even when it is
//! wrong. A password goes over TLS, or stays on this machine.

use std::{ffi::OsStr, fmt, net::IpAddr, str::FromStr};

use clap::{
    Arg, Command,
    builder::{TypedValueParser, ValueParserFactory},
    error::ErrorKind,
};
use http::Uri;
use lettre::transport::smtp::{authentication::Credentials, client::TlsParameters};

/// A mail server's URL, read and checked.
#[derive(Clone)]
pub struct SmtpUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    pub(crate) credentials: Option<Credentials>,
}

/// How the connection is kept from others.
#[derive(Clone)]
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// It begins in the clear and becomes TLS before anything is said.
    StartTls(TlsParameters),
    /// TLS from the first byte.
    Tls(TlsParameters),
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if matches!(self.security, Security::Tls(_)) { "smtps" } else { "smtp" };
        let known = if self.credentials.is_some() { "***@" } else { "" };
        let tls = if matches!(self.security, Security::StartTls(_)) { "?tls=required" } else { "" };
        write!(f, "{scheme}://{known}{}:{}{tls}", self.host, self.port)
    }
}

impl FromStr for SmtpUrl {
    /// For people; says nothing of what was given.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // What follows it would be left out, and the beginning of a password taken for a port.
        if text.contains('#') {
            return Err("must have no `#`: one in a password is written %23");
        }
        let url: Uri = text.parse().map_err(|_| "is not a URL like smtp://localhost")?;
        let authority = url.authority().ok_or("names no host")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("names no host");
        }
        if !matches!(url.path(), "" | "/") {
            return Err("must have no path");
        }
        let tls = || TlsParameters::new(host.clone()).map_err(|_| "names no host that TLS could check");
        let (security, usual_port) = match (url.scheme_str(), url.query()) {
            (Some("smtp"), None) => (Security::Plain, 25),
            (Some("smtp"), Some("tls=required")) => (Security::StartTls(tls()?), 587),
            (Some("smtps"), None) => (Security::Tls(tls()?), 465),
            _ => return Err("must be smtps://…, smtp://…?tls=required or smtp://…"),
        };
        // As text: a port that is none of the 65535 reads as if there were none.
        let after_host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, rest)| rest);
        let port = match after_host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            None => usual_port,
            Some((_, port)) => {
                port.parse().ok().filter(|port| *port > 0).ok_or("needs a port from 1 to 65535")?
            }
        };
        let credentials = match authority.as_str().rsplit_once('@') {
            None => None,
            Some((known, _)) => Some(credentials(known)?),
        };
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if credentials.is_some() && matches!(security, Security::Plain) && !here {
            return Err("would send a password in the clear: use smtps://… or ?tls=required");
        }
        Ok(Self { host, port, security, credentials })
    }
}

fn credentials(known: &str) -> Result<Credentials, &'static str> {
    let (user, password) = known.split_once(':').ok_or("names a user without a password")?;
    let decode = |text| percent_decoded(text).ok_or("needs user and password percent-encoded, in UTF-8");
    Ok(Credentials::new(decode(user)?, decode(password)?))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit(rest.next()?)? * 16 + digit(rest.next()?)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl ValueParserFactory for SmtpUrl {
    type Parser = Reader;

    fn value_parser() -> Reader {
        Reader
    }
}

/// Reads an [`SmtpUrl`] from the command line: clap's own readers repeat a value that is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Reader;

impl TypedValueParser for Reader {
    type Value = SmtpUrl;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<SmtpUrl, clap::Error> {
        value.to_str().ok_or("is not UTF-8").and_then(str::parse).map_err(|why: &str| {
            let says = format!("the value of --smtp-url (AMENDS_SMTP_URL) {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, says).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how() {
        for (text, shown) in [
            ("smtp://localhost", "smtp://localhost:25"),
            ("smtp://mail:2525/", "smtp://mail:2525"),
            ("smtp://[::1]:26", "smtp://::1:26"),
            ("smtp://[::1]", "smtp://::1:25"),
            ("smtp://a:b@127.0.0.1", "smtp://***@127.0.0.1:25"),
            ("smtp://a:b@mail.example?tls=required", "smtp://***@mail.example:587?tls=required"),
            ("smtp://mail.example:25?tls=required", "smtp://mail.example:25?tls=required"),
            ("smtps://a:b@mail.example", "smtps://***@mail.example:465"),
        ] {
            assert_eq!(format!("{:?}", text.parse::<SmtpUrl>()), format!("Ok({shown})"), "{text}");
        }
        let url: SmtpUrl = "smtps://a%40b:s%25cr%C3%A9t@mail.example".parse().unwrap();
        assert_eq!(url.credentials, Some(Credentials::new("a@b".into(), "s%crét".into())));
    }

    #[test]
    fn a_url_that_is_wrong_is_refused_without_repeating_it() {
        for bad in [
            "",
            "hunter2",
            "http://hunter2",
            "smtp://",
            "smtp://:hunter2@",
            "smtp://a:hunter2@mail.example",
            "smtp://hunter2@localhost",
            "smtps://a:1234#hunter2@mail.example",
            "smtp://a:%zzhunter2@localhost",
            "smtp://a:%+1hunter2@localhost",
            "smtp://a:%ffhunter2@localhost",
            "smtp://localhost:0",
            "smtp://localhost:70000",
            "smtp://localhost/hunter2",
            "smtp://localhost?tls=opportunistic",
            "smtps://localhost?tls=required",
        ] {
            let why = bad.parse::<SmtpUrl>().unwrap_err();
            assert!(!why.contains("hunter2"), "{bad}: {why}");
        }
    }
}
