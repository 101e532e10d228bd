//! The bearer secrets that the broker makes: tokens and tickets, shown once and kept as SHA-256.
//!
//! ```text
//! ubt_  k3v9…12  _  Zq81…43   7d20
//! kind     id       secret    first two bytes of the SHA-256 of what stands before, in hexadecimal
//! ```
//!
//! The last four characters tell a typing error from a token that is not known, and let scanners for secrets find them.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::random::Random;

/// What a secret is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A principal's token.
    Token,
    /// A ticket.
    Ticket,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Token => "ubt_",
            Self::Ticket => "ubk_",
        }
    }
}

/// Characters of an id: 71 random bits, which name and prove nothing.
const ID_LEN: usize = 12;
/// Characters of a secret: 256 random bits.
const SECRET_LEN: usize = 43;
const CHECK_LEN: usize = 4;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether a text is made as ids of tokens and tickets are.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A token or ticket as it was sent: what finds it in the ledger, and the digest to compare.
#[derive(Clone)]
pub struct Bearer {
    /// What it says that it is for.
    pub kind: Kind,
    /// Its id, which is no secret.
    pub id: String,
    sha256: [u8; 32],
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Bearer {
    /// A new one, and its text, which exists nowhere else.
    pub fn make(kind: Kind, random: &Random) -> (Self, String) {
        let mut text = format!(
            "{}{}_{}",
            kind.prefix(),
            letters::<ID_LEN>(random),
            letters::<SECRET_LEN>(random)
        );
        text.push_str(&check_of(&text));
        let id = text.get(4..4 + ID_LEN).unwrap_or_default().to_owned();
        let sha256 = Sha256::digest(&text).into();
        (Self { kind, id, sha256 }, text)
    }

    /// What this text is, unless it is none or has a typing error in it.
    pub fn read(text: &str) -> Option<Self> {
        let kind = [Kind::Token, Kind::Ticket]
            .into_iter()
            .find(|kind| text.starts_with(kind.prefix()))?;
        let (body, check) = text.split_at_checked(text.len().checked_sub(CHECK_LEN)?)?;
        let (id, secret) = body.get(4..)?.split_once('_')?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id.len() != ID_LEN || secret.len() != SECRET_LEN || !plain(id) || !plain(secret) || check != check_of(body) {
            return None;
        }
        Some(Self {
            kind,
            id: id.to_owned(),
            sha256: Sha256::digest(text).into(),
        })
    }

    /// As the ledger keeps it.
    pub fn digest(&self) -> String {
        let [first, second] = [self.sha256.first_chunk(), self.sha256.last_chunk()];
        let half = |bytes: Option<&[u8; 16]>| u128::from_be_bytes(bytes.copied().unwrap_or_default());
        format!("{:032x}{:032x}", half(first), half(second))
    }

    /// Whether the ledger keeps this very one, in a time that does not tell how nearly.
    pub fn is(&self, digest: &str) -> bool {
        self.digest().as_bytes().ct_eq(digest.as_bytes()).into()
    }
}

fn check_of(body: &str) -> String {
    let [first, second, ..]: [u8; 32] = Sha256::digest(body).into();
    format!("{first:02x}{second:02x}")
}

/// Letters and digits, all equally likely.
fn letters<const N: usize>(random: &Random) -> String {
    let mut text = String::with_capacity(N);
    while text.len() < N {
        for byte in random.bytes::<32>() {
            // 248 is the last multiple of 62: what is beyond would make some letters likelier.
            if byte < 248
                && text.len() < N
                && let Some(letter) = ALPHABET.get(usize::from(byte % 62))
            {
                text.push(char::from(*letter));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_and_known_by_its_digest_alone() {
        for kind in [Kind::Token, Kind::Ticket] {
            let (made, text) = Bearer::make(kind, &Random::default());
            let read = Bearer::read(&text).unwrap();
            assert_eq!((read.kind, &read.id), (kind, &made.id));
            assert!(read.is(&made.digest()));
            let (other, _) = Bearer::make(kind, &Random::default());
            assert!(!read.is(&other.digest()));
            assert!(!format!("{read:?}").contains(text.get(17..30).unwrap()));
        }
    }

    #[test]
    fn t31_one_changed_character_anywhere_makes_another_text_that_is_no_secret() {
        let (_, text) = Bearer::make(Kind::Token, &Random::default());
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(bytes).unwrap();
            // Two bytes of check: a change in the body goes unnoticed once in 65,536 times, and then the digest differs.
            if let Some(read) = Bearer::read(&changed) {
                assert_ne!(read.digest(), Bearer::read(&text).unwrap().digest());
            }
        }
        for cut in 0..text.len() {
            assert!(Bearer::read(&text[..cut]).is_none());
        }
        assert!(Bearer::read(&format!("{text} ")).is_none());
    }
}
