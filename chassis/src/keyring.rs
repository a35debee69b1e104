//! Keeps a short secret readable for whoever has the key, and for nobody who has the rows, the messages or a dump.
//!
//! AES-256-GCM. The nonce is synthetic: the first 96 bits of HMAC-SHA-256, under a key of its own, over what the secret is
//! about and the secret itself. So the same secret about the same thing is always the same text, nothing is drawn, and a
//! nonce comes twice only with the same text, or by an accident that 2³² texts under one key make as likely as 1 in 2³³.
//! What it is about is authenticated: a text that was copied to another row does not open there.
//!
//! A key is 32 bytes with a name that stands in the text, so that keys can be changed: the first of a ring encrypts, all of
//! them decrypt. It must never show a secret or a key, not even by `Debug`.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// Before every text, with the version of this rule. A dot stands in no token.
const MARK: &str = "enc1.";
/// Bytes that every sealed secret has beside its own: the nonce and the tag.
const LEAST_SEALED: usize = NONCE_LEN + 16;

/// Some keys; the first encrypts.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: String,
    cipher: LessSafeKey,
    nonces: hmac::Key,
}

/// A text that is no keyring. It is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// None at all.
    #[error("no key is given: write id:key, where the key is 64 hexadecimal digits (openssl rand -hex 32)")]
    Empty,
    /// Not `id:key`, or a name that cannot stand in a text.
    #[error("a key is written as id:key, where the id is 1 to 16 letters and digits")]
    Id,
    /// Not 32 bytes.
    #[error("a key is 64 hexadecimal digits (openssl rand -hex 32)")]
    Key,
    /// One name for two keys.
    #[error("two keys have the same id")]
    Twice,
}

/// Why a text was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no text of a keyring.
    #[error("is not encrypted by a known rule")]
    NotOurs,
    /// Its key is not here.
    #[error("is encrypted with the key `{0}`, which is not among the keys given")]
    UnknownKey(String),
    /// Another key of that name, another thing that it is about, or changed.
    #[error("does not open: another key of that name, or it was made for something else")]
    DoesNotOpen,
}

impl Keyring {
    /// A key of its own, with this name.
    ///
    /// # Errors
    /// When the machine gives no random bytes, or the name cannot stand in a text.
    pub fn draw(id: &str) -> std::io::Result<String> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| std::io::Error::other("no random bytes"))?;
        Ok(format!("{id}:{}", hex::encode(key)))
    }

    /// The text under the first key.
    #[must_use]
    pub fn encrypt(&self, about: &[u8], secret: &str) -> String {
        self.keys[0].encrypt(about, secret)
    }

    /// Whether it is a text of a keyring.
    #[must_use]
    pub fn is_encrypted(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// Whether what stands at this place belongs to a text of a keyring: by its form, since whoever reads logs and databases has
    /// no keys. Chance makes anything of such a text, even what looks like a secret.
    #[must_use]
    pub fn is_within_encrypted(bytes: &[u8], at: usize) -> bool {
        let is_digit = |c: &u8| c.is_ascii_alphanumeric() || b"-_".contains(c);
        let (before, after) = bytes.split_at(at.min(bytes.len()));
        let start = before.iter().rposition(|c| !is_digit(c)).map_or(0, |dot| dot + 1);
        let end = before.len() + after.iter().take_while(|c| is_digit(c)).count();
        let Some(before) = before[..start].strip_suffix(b".") else { return false };
        let id = before.iter().rev().take_while(|c| c.is_ascii_alphanumeric()).count();
        (1..=16).contains(&id)
            && before[..before.len() - id].ends_with(MARK.as_bytes())
            && URL_SAFE_NO_PAD.decode(&bytes[start..end]).is_ok_and(|sealed| sealed.len() > LEAST_SEALED)
    }

    /// The secret.
    ///
    /// # Errors
    /// When it is none that these keys open for what it is about.
    pub fn decrypt(&self, about: &[u8], text: &str) -> Result<String, Unreadable> {
        let (id, text) =
            text.strip_prefix(MARK).and_then(|rest| rest.split_once('.')).ok_or(Unreadable::NotOurs)?;
        let key = self.keys.iter().find(|key| key.id == id);
        key.ok_or_else(|| Unreadable::UnknownKey(id.to_owned()))?.decrypt(about, text)
    }
}

impl Key {
    fn new(id: &str, master: &[u8; 32]) -> Result<Self, Malformed> {
        let part = |what: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, master), what);
        let cipher = UnboundKey::new(&AES_256_GCM, part(b"amends.encrypt.1").as_ref());
        Ok(Self {
            id: id.to_owned(),
            cipher: LessSafeKey::new(cipher.map_err(|_| Malformed::Key)?),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, part(b"amends.nonce.1").as_ref()),
        })
    }

    #[expect(clippy::expect_used, reason = "it refuses only what is longer than 64 GiB")]
    fn encrypt(&self, about: &[u8], secret: &str) -> String {
        let mut hash = hmac::Context::with_key(&self.nonces);
        hash.update(&(about.len() as u64).to_be_bytes());
        hash.update(about);
        hash.update(secret.as_bytes());
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&hash.sign().as_ref()[..NONCE_LEN]);
        let mut sealed = secret.as_bytes().to_vec();
        self.cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut sealed)
            .expect("a secret is short");
        format!("{MARK}{}.{}", self.id, URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    fn decrypt(&self, about: &[u8], text: &str) -> Result<String, Unreadable> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Unreadable::NotOurs)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(Unreadable::NotOurs)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.cipher.open_in_place(nonce, Aad::from(about), &mut sealed);
        let opened = opened.map_err(|_| Unreadable::DoesNotOpen)?;
        String::from_utf8(opened.to_vec()).map_err(|_| Unreadable::DoesNotOpen)
    }
}

impl FromStr for Keyring {
    type Err = Malformed;

    /// `id:key,id:key`; the first encrypts.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut keys: Vec<Key> = Vec::new();
        for key in text.split([',', '\n']).map(str::trim).filter(|key| !key.is_empty()) {
            let (id, digits) = key.split_once(':').ok_or(Malformed::Id)?;
            if !(1..=16).contains(&id.len()) || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
                return Err(Malformed::Id);
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(Malformed::Twice);
            }
            let mut master = [0; 32];
            hex::decode_to_slice(digits, &mut master).map_err(|_| Malformed::Key)?;
            keys.push(Key::new(id, &master)?);
        }
        if keys.is_empty() { Err(Malformed::Empty) } else { Ok(Self { keys }) }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> Keyring {
        text.replace("OLD", &"0b".repeat(32)).replace("NEW", &"0c".repeat(32)).parse().unwrap()
    }

    #[test]
    fn a_secret_opens_for_what_it_is_about_and_nothing_else() {
        let keys = ring("a:OLD");
        let text = keys.encrypt(b"one", "tok_approve");
        assert_eq!(keys.decrypt(b"one", &text), Ok("tok_approve".to_owned()));
        assert_eq!(keys.encrypt(b"one", "tok_approve"), text, "once and for all");
        assert_ne!(keys.encrypt(b"two", "tok_approve"), text);
        assert_eq!(keys.decrypt(b"two", &text), Err(Unreadable::DoesNotOpen));
        let mut changed = text.clone().into_bytes();
        let last = changed.len() - 3;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        assert_eq!(
            keys.decrypt(b"one", std::str::from_utf8(&changed).unwrap()),
            Err(Unreadable::DoesNotOpen)
        );
        assert!(Keyring::is_encrypted(&text) && !text.contains("tok_") && !Keyring::is_encrypted("tok_a"));
        for bad in ["tok_approve", "enc1.a", "enc1.a.", "enc1.a.!!", "enc1.a.AAAA", "enc2.a.AAAA"] {
            assert_eq!(keys.decrypt(b"one", bad), Err(Unreadable::NotOurs), "{bad}");
        }
    }

    #[test]
    fn every_place_in_an_encrypted_text_is_known_by_its_form() {
        let text = ring("a:OLD").encrypt(b"one", "t");
        let around = format!("{{\"card_token\":\"{text}\",\"x\":\"tok_a\"}}");
        let start = around.find(&text).unwrap();
        let within = |at: usize| Keyring::is_within_encrypted(around.as_bytes(), at);
        let sealed = start + "enc1.a.".len();
        assert!((sealed..start + text.len()).all(within));
        assert!(
            !within(start) && !within(0) && !within(around.find("tok_a").unwrap()) && !within(around.len())
        );
    }

    /// What stands in journals must open for ever.
    #[test]
    fn the_first_rule_is_what_it_was() {
        let text = ring("a:OLD").encrypt(b"one", "tok_approve");
        assert_eq!(text, "enc1.a.q4KTik0AhP_AlbmhDgGhYnzXjbszu9zW52i7Ug9CqlqSouYs4LuH");
    }

    #[test]
    fn keys_are_changed_by_putting_a_new_one_before_the_old() {
        let (old, both, new) = (ring("a:OLD"), ring("b:NEW,a:OLD"), ring("b:NEW"));
        let before = old.encrypt(b"", "s");
        let after = both.encrypt(b"", "s");
        assert!(after.starts_with("enc1.b."));
        assert_eq!(both.decrypt(b"", &before), both.decrypt(b"", &after));
        assert_eq!(new.decrypt(b"", &before), Err(Unreadable::UnknownKey("a".into())));
        assert_eq!(ring("a:NEW").decrypt(b"", &before), Err(Unreadable::DoesNotOpen));
    }

    #[test]
    fn what_is_no_ring_is_refused_without_repeating_it() {
        let key = "0b".repeat(32);
        for (bad, why) in [
            (String::new(), Malformed::Empty),
            (" , ".to_owned(), Malformed::Empty),
            (key.clone(), Malformed::Id),
            (format!(":{key}"), Malformed::Id),
            (format!("a.b:{key}"), Malformed::Id),
            (format!("a:{key}00"), Malformed::Key),
            ("a:geheim".to_owned(), Malformed::Key),
            (format!("a:{key},a:{key}"), Malformed::Twice),
        ] {
            assert_eq!(bad.parse::<Keyring>().err(), Some(why), "{bad}");
        }
        assert_eq!(format!("{:?}", ring("a:OLD,b:NEW")), r#"["a", "b"]"#);
        let drawn = Keyring::draw("x").unwrap();
        assert_ne!(drawn, Keyring::draw("x").unwrap());
        assert!(drawn.parse::<Keyring>().is_ok());
    }
}
