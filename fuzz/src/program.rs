//! What the program is told: its command line, and a client's own record of what was acknowledged.

use crate::verdict::text_says_why;

/// Words, each ended by NUL: `order create P1001:2 --currency EUR …`.
pub(crate) fn command_line(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<String> = std::iter::once("amends").chain(text.split('\0')).map(str::to_owned).collect();
    let read = amends::doors::command_line(&words);
    if let Err(why) = &read {
        assert!(!why.trim().is_empty());
    }
    assert_eq!(read.is_ok(), amends::doors::command_line(&words).is_ok());
}

/// One line of the file.
pub(crate) fn acknowledged(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    match amends::doors::acknowledged(line) {
        Ok((_, key)) => assert!(key.is_none_or(|key| !key.contains('\0')), "no database can be asked for it"),
        Err(why) => text_says_why(&why),
    }
}

pub(crate) mod seeds {
    fn lines(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|line| line.replace(' ', "\0").into_bytes()).collect()
    }

    pub(crate) fn command_line() -> Vec<Vec<u8>> {
        lines(&[
            "order create P1001:2 P1002:1 --customer c_1 --merchant m_1 --currency EUR --card tok_approve --wait 10s --metadata a=b",
            "order list --status under-review --merchant m_1",
            "order cancel ord_01h2xcejqtf2nbrexx3vqjhp41 --reason x",
            "saga list --state PARKED",
            "saga retry saga_01h2xcejqtf2nbrexx3vqjhp41 --actor ada --reason repaired",
            "price set P1001 19.99 EUR",
            "stock put P1001 100",
            "review list --state open",
            "balance merchant:m_1:EUR",
            "audit --grace 10m --acknowledged /tmp/x",
            "health --within 4s",
            "inventory --database-connections 8 --grace 20s",
            "--help",
        ])
    }

    pub(crate) fn acknowledged() -> Vec<Vec<u8>> {
        [
            r#"{"key":"k","fingerprint":"f","order_id":"ord_01h2xcejqtf2nbrexx3vqjhp41"}"#,
            r#"{"order_id":"0188bac7-4afa-78aa-bc3b-bd1eef28d881","more":1}"#,
            r#"{"key":"a\u0000b","order_id":"0188bac7-4afa-78aa-bc3b-bd1eef28d881"}"#,
        ]
        .map(|line| line.as_bytes().to_vec())
        .to_vec()
    }
}
