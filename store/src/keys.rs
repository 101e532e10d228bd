//! Whose signatures count, and what each access key may do.
//!
//! One pair may do everything. Any number of others may do less: a signer of part URLs, for one, needs only to write.

use std::fmt;

use serde::Serialize;
use subtle::ConstantTimeEq as _;

use crate::error::StoreError;

/// A key pair.
#[derive(Clone, Serialize)]
pub struct Credentials {
    /// Names the key; part of every signed URL, so not a secret.
    pub access_key_id: String,
    /// Signs. Never logged; `Debug` hides it.
    pub secret_access_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// The pair of these two.
    ///
    /// # Errors
    /// One of the two has another length or other characters than S3 tools take without quoting.
    pub fn new(access_key_id: String, secret_access_key: String) -> Result<Self, StoreError> {
        let credentials = Self {
            access_key_id,
            secret_access_key,
        };
        match credentials.flaw() {
            Some(flaw) => Err(StoreError::AccessKey(flaw)),
            None => Ok(credentials),
        }
    }

    /// New credentials: 20 characters of key id, 40 of secret (200 random bits).
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> Result<Self, StoreError> {
        Ok(Self {
            access_key_id: format!("EK{}", random_text::<18>()?),
            secret_access_key: random_text::<40>()?,
        })
    }

    /// What keeps these two from being a key pair.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let (id, secret) = (self.access_key_id.as_bytes(), self.secret_access_key.as_bytes());
        if !(3..=128).contains(&id.len()) || !id.iter().all(u8::is_ascii_alphanumeric) {
            return Some("access_key_id is not 3 to 128 of A-Z, a-z and 0-9");
        }
        // No more than tools take without quoting: the secret is told in `export` lines.
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/+=_-.".contains(byte);
        (secret.len() < 8 || !secret.iter().all(plain))
            .then_some("secret_access_key is not 8 or more of A-Z, a-z, 0-9 and / + = _ - .")
    }
}

/// What a key may do with the objects it is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Rights {
    /// Everything.
    #[default]
    Full,
    /// Get, head and list; nothing that changes anything.
    ReadOnly,
    /// Put objects and whole uploads from create to complete or abort, and list the parts of those. No reads, so no copies
    /// either and no canned ACL that lets others read; no listing, no deletes.
    WriteOnly,
}

impl Rights {
    /// As a credentials file and a refusal name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::WriteOnly => "write-only",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [Self::Full, Self::ReadOnly, Self::WriteOnly];
        all.into_iter().find(|rights| rights.name() == name)
    }
}

/// A key pair, what it may do, and where.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The pair.
    pub credentials: Credentials,
    /// What it may do.
    pub rights: Rights,
    /// The buckets it may do that in; `None` for all.
    pub buckets: Option<Vec<String>>,
    /// What the keys of its objects begin with; empty for all.
    pub prefix: String,
}

/// What a request does, as far as rights go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Deed {
    Read,
    Write,
    /// Lists the parts of an upload: whoever writes them may know which have arrived.
    ListParts,
    /// Deletes objects that its body names, each of which is asked for by itself.
    DeleteMany,
    Change,
}

impl AccessKey {
    /// May everything.
    pub fn full(credentials: Credentials) -> Self {
        Self {
            credentials,
            rights: Rights::Full,
            buckets: None,
            prefix: String::new(),
        }
    }

    /// Whether it may do this to the object, to the bucket if none is named, to the store if no bucket is either. A listing
    /// counts as a read of the bucket here: what it may list is for [`AccessKey::covers`] to say.
    pub(crate) fn may(&self, deed: Deed, bucket: Option<&str>, key: Option<&str>) -> bool {
        let entitled = match (self.rights, deed) {
            (Rights::Full, _)
            | (Rights::ReadOnly, Deed::Read | Deed::ListParts)
            | (Rights::WriteOnly, Deed::Write | Deed::ListParts) => true,
            (Rights::ReadOnly | Rights::WriteOnly, _) => false,
        };
        let covered = match (bucket, key) {
            (Some(bucket), Some(key)) => self.covers(bucket, key),
            // Whoever has but some of a bucket's keys may not change the bucket itself.
            (Some(bucket), None) => self.works_in(bucket) && (self.prefix.is_empty() || deed != Deed::Change),
            (None, _) => self.buckets.is_none(),
        };
        entitled && covered
    }

    /// Whether the object is one of those it is for.
    pub(crate) fn covers(&self, bucket: &str, key: &str) -> bool {
        self.works_in(bucket) && key.starts_with(&self.prefix)
    }

    fn works_in(&self, bucket: &str) -> bool {
        let mut named = self.buckets.iter().flatten();
        self.buckets.is_none() || named.any(|name| name == bucket)
    }
}

/// All keys that a store knows. The first may do everything.
#[derive(Clone, Debug)]
pub struct Keys {
    owner: AccessKey,
    others: Vec<AccessKey>,
}

impl From<Credentials> for Keys {
    /// One pair, which may do everything.
    fn from(credentials: Credentials) -> Self {
        Self {
            owner: AccessKey::full(credentials),
            others: Vec::new(),
        }
    }
}

impl Keys {
    /// The pair that may do everything.
    pub fn owner(&self) -> &Credentials {
        &self.owner.credentials
    }

    /// Adds a key. Of several with one id the first counts.
    pub fn add(&mut self, key: AccessKey) {
        self.others.push(key);
    }

    /// The key of this id. Takes as long for one that is not there as for any other of its length.
    pub(crate) fn find(&self, id: &str) -> Option<&AccessKey> {
        let mut found = None;
        for key in std::iter::once(&self.owner).chain(&self.others) {
            let same: bool = id.as_bytes().ct_eq(key.credentials.access_key_id.as_bytes()).into();
            if same && found.is_none() {
                found = Some(key);
            }
        }
        found
    }
}

/// `N` characters, each one of 32 that no tool needs to escape.
fn random_text<const N: usize>() -> Result<String, StoreError> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
        .map(|byte| char::from(*byte))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rights: Rights, buckets: Option<&str>, prefix: &str) -> AccessKey {
        AccessKey {
            rights,
            buckets: buckets.map(|name| vec![name.to_owned()]),
            prefix: prefix.to_owned(),
            ..AccessKey::full(Credentials::random().unwrap())
        }
    }

    #[test]
    fn each_right_allows_its_deeds_and_no_other() {
        use Deed::{Change, DeleteMany, ListParts, Read, Write};
        for (rights, allowed) in [
            (Rights::Full, vec![Read, Write, ListParts, DeleteMany, Change]),
            (Rights::ReadOnly, vec![Read, ListParts]),
            (Rights::WriteOnly, vec![Write, ListParts]),
        ] {
            let key = key(rights, None, "");
            for deed in [Read, Write, ListParts, DeleteMany, Change] {
                assert_eq!(
                    key.may(deed, Some("b"), Some("k")),
                    allowed.contains(&deed),
                    "{rights:?} {deed:?}"
                );
            }
        }
    }

    #[test]
    fn a_key_works_in_its_buckets_and_below_its_prefix_only() {
        let key = key(Rights::Full, Some("mine"), "in/");
        assert!(key.may(Deed::Write, Some("mine"), Some("in/a")));
        assert!(key.may(Deed::Read, Some("mine"), None));
        assert!(key.may(Deed::DeleteMany, Some("mine"), None));
        for (deed, bucket, object) in [
            (Deed::Write, Some("mine"), Some("in")),
            (Deed::Write, Some("mine"), Some("other/in/a")),
            (Deed::Write, Some("other"), Some("in/a")),
            (Deed::Change, Some("mine"), None),
            (Deed::Read, None, None),
        ] {
            assert!(!key.may(deed, bucket, object), "{deed:?} {bucket:?} {object:?}");
        }
    }

    #[test]
    fn debug_output_does_not_hold_the_secret() {
        let credentials = Credentials::random().unwrap();
        let secret = credentials.secret_access_key.clone();
        assert!(!format!("{:?}", Keys::from(credentials)).contains(&secret));
    }
}
