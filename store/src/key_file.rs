//! The file that keys are kept in: one pair, or a list of them with what each may do.
//!
//! Read field by field rather than derived: a message may name what is wrong, never show a value, which may be a secret;
//! and a misspelt field must not leave a key with more rights than were meant.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::{Map, Value};
use tracing::warn;

use crate::error::StoreError;
use crate::keys::{AccessKey, Credentials, Keys, Rights};

impl Keys {
    /// The keys in the file at `path`; where there is none, one new pair, written there for the next time with mode 0600.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, StoreError> {
        match fs::read(path) {
            Ok(bytes) => load(path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let credentials = Credentials::random()?;
                match save(path, &credentials) {
                    Ok(()) => Ok(credentials.into()),
                    // Another process was first: its file is the one that stays.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let bytes = fs::read(path).map_err(|source| unusable("read", path, source))?;
                        load(path, &bytes)
                    }
                    Err(source) => Err(unusable("write", path, source)),
                }
            }
            Err(source) => Err(unusable("read", path, source)),
        }
    }
}

fn load(path: &Path, bytes: &[u8]) -> Result<Keys, StoreError> {
    let keys = parse(bytes).map_err(|flaw| StoreError::Credentials {
        path: path.to_owned(),
        flaw,
    })?;
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        warn!(path = %path.display(), "other users of this machine can read the store's credentials; chmod 600 the file");
    }
    Ok(keys)
}

/// The keys, or what is wrong with which entry.
pub(crate) fn parse(bytes: &[u8]) -> Result<Keys, String> {
    let entries = match serde_json::from_slice(bytes) {
        Ok(Value::Array(entries)) => entries,
        Ok(one @ Value::Object(_)) => vec![one],
        Ok(_) => return Err("it is neither a JSON object nor a list of them".to_owned()),
        // Where, but not what: the text may be a secret's.
        Err(error) => return Err(format!("line {}: it is not JSON", error.line())),
    };
    let mut keys: Option<Keys> = None;
    for (number, entry) in (1..).zip(entries) {
        let wrong = |flaw: String| format!("entry {number}: {flaw}");
        let Value::Object(fields) = entry else {
            return Err(wrong("it is not a JSON object".to_owned()));
        };
        let key = access_key(fields).map_err(wrong)?;
        match &mut keys {
            None if key.rights == Rights::Full && key.buckets.is_none() && key.prefix.is_empty() => {
                keys = Some(key.credentials.into());
            }
            None => {
                return Err(wrong(
                    "the first key has to be the one that may do everything; leave out rights, buckets and prefix"
                        .to_owned(),
                ));
            }
            Some(keys) if keys.find(&key.credentials.access_key_id).is_some() => {
                return Err(wrong("another entry has the same access_key_id".to_owned()));
            }
            Some(keys) => keys.add(key),
        }
    }
    keys.ok_or_else(|| "the list is empty".to_owned())
}

fn access_key(mut fields: Map<String, Value>) -> Result<AccessKey, String> {
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} is not a string")),
        None => Ok(None),
    };
    let credentials = Credentials {
        access_key_id: text("access_key_id")?.ok_or("access_key_id is missing")?,
        secret_access_key: text("secret_access_key")?.ok_or("secret_access_key is missing")?,
    };
    if let Some(flaw) = credentials.flaw() {
        return Err(flaw.to_owned());
    }
    let rights = match text("rights")? {
        Some(name) => Rights::named(&name).ok_or("rights is not full, read-only or write-only")?,
        None => Rights::Full,
    };
    let prefix = text("prefix")?.unwrap_or_default();
    let buckets = match fields.remove("buckets") {
        // A key for nothing is a slip: whoever means all buckets leaves it out.
        Some(Value::Array(names)) if names.is_empty() => {
            return Err("buckets names none; leave it out for all".to_owned());
        }
        Some(Value::Array(names)) => {
            let name = |name: Value| name.as_str().map(str::to_owned);
            let names: Option<Vec<_>> = names.into_iter().map(name).collect();
            Some(names.ok_or("buckets is not a list of names")?)
        }
        Some(_) => return Err("buckets is not a list of names".to_owned()),
        None => None,
    };
    match fields.keys().next() {
        Some(name) => Err(format!("{name:?} is not a field of a key")),
        None => Ok(AccessKey {
            credentials,
            rights,
            buckets,
            prefix,
        }),
    }
}

/// Writes all of the file under another name and links it into place: nobody ever sees half of it.
fn save(path: &Path, credentials: &Credentials) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        serde_json::to_writer_pretty(&mut file, credentials)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    })();
    let _ = fs::remove_file(&draft);
    written
}

fn unusable(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Directory {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = r#"{"access_key_id": "OWNER", "secret_access_key": "owner-secret"}"#;

    #[test]
    fn credentials_are_made_once_and_only_their_owner_can_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/credentials.json");
        let first = Keys::load_or_create(&path).unwrap();
        let again = Keys::load_or_create(&path).unwrap();
        assert_eq!(first.owner().secret_access_key, again.owner().secret_access_key);
        assert_eq!(first.owner().secret_access_key.len(), 40);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "a draft was left"
        );
    }

    #[test]
    fn a_file_that_holds_no_credentials_is_refused_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.json");
        let text = "{\"access_key_id\": \"a/b\", \"secret_access_key\": \"long enough\"}";
        fs::write(&path, text).unwrap();
        assert!(matches!(
            Keys::load_or_create(&path),
            Err(StoreError::Credentials { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_list_gives_each_key_its_rights() {
        let signer = r#"{"access_key_id": "SIGNER", "secret_access_key": "signer-secret",
            "rights": "write-only", "buckets": ["uploads"], "prefix": "in/"}"#;
        let keys = parse(format!("[{OWNER}, {signer}]").as_bytes()).unwrap();
        assert_eq!(keys.owner().access_key_id, "OWNER");
        let signer = keys.find("SIGNER").unwrap();
        assert_eq!(signer.rights, Rights::WriteOnly);
        assert_eq!(signer.buckets.as_deref(), Some(&["uploads".to_owned()][..]));
        assert_eq!(signer.prefix, "in/");
        assert!(keys.find("SIGNE").is_none());
    }

    #[test]
    fn a_wrong_entry_is_named_and_no_secret_is_told() {
        let second = |fields: &str| {
            format!(r#"[{OWNER}, {{"access_key_id": "OTHER", "secret_access_key": "other-secret"{fields}}}]"#)
        };
        for (text, expected) in [
            (second(r#", "rights": "write""#), "entry 2: rights is not"),
            (second(r#", "prefx": "in/""#), "entry 2: \"prefx\" is not a field"),
            (second(r#", "buckets": "uploads""#), "entry 2: buckets is not"),
            (second(r#", "buckets": [1]"#), "entry 2: buckets is not"),
            (second(r#", "buckets": []"#), "entry 2: buckets names none"),
            (second(r#", "prefix": 1"#), "entry 2: prefix is not a string"),
            (format!("[{OWNER}, {OWNER}]"), "entry 2: another entry has"),
            (format!("[{OWNER}, 7]"), "entry 2: it is not a JSON object"),
            (
                OWNER.replace('}', r#", "rights": "read-only"}"#),
                "entry 1: the first key has to be",
            ),
            (
                OWNER.replace("\"owner-secret\"", "12345678"),
                "entry 1: secret_access_key is not a string",
            ),
            (
                OWNER.replace("owner-secret", "sh rt"),
                "entry 1: secret_access_key is not 8",
            ),
            ("[]".to_owned(), "the list is empty"),
            ("7".to_owned(), "it is neither"),
            (OWNER.replace(':', "="), "line 1: it is not JSON"),
        ] {
            let flaw = parse(text.as_bytes()).unwrap_err();
            assert!(flaw.starts_with(expected), "{text}: {flaw}");
            assert!(!flaw.contains("secret\"") && !flaw.contains("12345678"), "{flaw}");
        }
    }
}
