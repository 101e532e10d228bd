//! What clients did, and so what may stand at their keys: nothing here knows how the broker works.

use std::collections::BTreeMap;

use broker::ledger::StoredObject;
use shared::UploadId;
use tests::Object;

use crate::history::Shape;

/// A URL, its headers, and what goes there.
pub(crate) type Signed = (String, BTreeMap<String, String>, Vec<u8>);

/// One part as its client knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// What was declared, the last at the end.
    pub(crate) declared: Vec<Vec<u8>>,
    /// All that was ever sent, by whomever.
    pub(crate) sent: Vec<Vec<u8>>,
    /// Which version its client last meant to send.
    pub(crate) version: u8,
    /// The first URL that was signed.
    pub(crate) first: Option<Signed>,
    /// The last one.
    pub(crate) last: Option<Signed>,
}

/// One upload as its client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) shape: Shape,
    pub(crate) id: UploadId,
    pub(crate) key: String,
    pub(crate) write_token: String,
    pub(crate) parts: Vec<Part>,
    /// The object that the client was told of.
    pub(crate) done: Option<StoredObject>,
    /// What the client was told for good.
    pub(crate) ended: Option<&'static str>,
    /// What may have ended it: somebody asked for that, or it was time.
    pub(crate) may_end: bool,
    /// What may have lost it: the store, or whoever else put something to the key.
    pub(crate) may_be_lost: bool,
    /// Whether a broker was held up in completing it beyond its lease.
    pub(crate) overtaken: bool,
}

impl Upload {
    /// The contents that a part of the object may have. Where ETags are MD5s it is what was declared; elsewhere all that was sent,
    /// of the planned size if that is known.
    fn contents(&self, part: &Part, etags_are_md5s: bool) -> Vec<Vec<u8>> {
        match part.declared.last() {
            // Whoever was overtaken may have joined what was declared when it listed the parts.
            Some(_) if etags_are_md5s && self.overtaken => part.declared.clone(),
            Some(last) if etags_are_md5s => vec![last.clone()],
            _ => part
                .sent
                .iter()
                .filter(|sent| !self.shape.sized || sent.len() == content(0, 0, true).len())
                .cloned()
                .collect(),
        }
    }

    /// Whether these bytes can be this upload's object.
    pub(crate) fn can_be(&self, bytes: &[u8], etags_are_md5s: bool) -> bool {
        let mut rests = vec![bytes];
        for part in &self.parts {
            let contents = self.contents(part, etags_are_md5s);
            rests = rests
                .iter()
                .flat_map(|rest| {
                    contents
                        .iter()
                        .filter_map(|content| rest.strip_prefix(content.as_slice()))
                })
                .collect();
        }
        rests.iter().any(|rest| rest.is_empty())
    }
}

/// Bytes of a version of a part; those of a sized upload are all equally many.
pub(crate) fn content(part: usize, version: u8, sized: bool) -> Vec<u8> {
    let text = if sized {
        format!("{version:09};")
    } else {
        format!("{part}:{version};")
    };
    text.into_bytes()
}

/// What somebody else puts to a key.
pub(crate) const FOREIGN: &[u8] = b"somebody else's";

/// Whether an object at one of the keys can be what it is: somebody else's, or right. Answers whose it is.
pub(crate) fn owner<'a>(
    uploads: &'a [Upload],
    key: &str,
    object: &Object,
    etags_are_md5s: bool,
) -> Result<Option<&'a Upload>, String> {
    let Some(token) = object.metadata.get("broker-write-token") else {
        return if object.bytes == FOREIGN {
            Ok(None)
        } else {
            Err(format!(
                "I2: an object at {key} that nobody has put: {:?}",
                object.bytes
            ))
        };
    };
    let owner = uploads
        .iter()
        .find(|upload| upload.write_token == *token && upload.key == key);
    let owner = owner.ok_or_else(|| format!("I2: an object of no upload at {key}"))?;
    if owner.can_be(&object.bytes, etags_are_md5s) {
        Ok(Some(owner))
    } else {
        Err(format!(
            "I1: the object at {key} is {:?}, which its parts do not make: {:?}",
            String::from_utf8_lossy(&object.bytes),
            owner.parts
        ))
    }
}
