//! What clients did, and so what may stand at their keys: nothing here knows how the broker works.

use std::collections::BTreeMap;

use broker::ledger::StoredObject;
use shared::UploadId;
use tests::Object;

use crate::history::{Kind, Shape};

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
    /// Whether it goes up by one PUT, whose URL outlives it.
    pub(crate) whole: bool,
    /// Requests to sign parts that were granted.
    pub(crate) signed: i64,
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
    fn contents(&self, place: usize, part: &Part, etags_are_md5s: bool) -> Vec<Vec<u8>> {
        let planned = content(&self.shape, place, 0).len();
        match part.declared.last() {
            // Whoever was overtaken may have joined what was declared when it listed the parts.
            Some(_) if etags_are_md5s && self.overtaken => part.declared.clone(),
            Some(last) if etags_are_md5s => vec![last.clone()],
            _ => part
                .sent
                .iter()
                .filter(|sent| self.shape.kind == Kind::Form || sent.len() == planned)
                .cloned()
                .collect(),
        }
    }

    /// Whether these bytes can be this upload's object.
    pub(crate) fn can_be(&self, bytes: &[u8], etags_are_md5s: bool) -> bool {
        let mut rests = vec![bytes];
        for (place, part) in self.parts.iter().enumerate() {
            let contents = self.contents(place, part, etags_are_md5s);
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

/// Bytes of a version of a part; where the broker plans them, all versions have equally many.
pub(crate) fn content(shape: &Shape, part: usize, version: u8) -> Vec<u8> {
    let last = part + 1 == usize::from(shape.parts);
    match shape.kind {
        Kind::Form => format!("{part}:{version};").into_bytes(),
        Kind::Sized | Kind::Stream if !last => {
            vec![version; usize::try_from(PART_SIZE).unwrap()]
        }
        Kind::Sized | Kind::Stream | Kind::Small => format!("{version:09};").into_bytes(),
    }
}

/// Bytes in all.
pub(crate) fn size(shape: &Shape) -> u64 {
    (0..usize::from(shape.parts))
        .map(|part| content(shape, part, 0).len() as u64)
        .sum()
}

/// Of every planned part but the last.
pub(crate) const PART_SIZE: u64 = shared::plan::MIN_PART_SIZE;

/// What somebody else puts to a key.
pub(crate) const FOREIGN: &[u8] = b"somebody else's";

/// As much of it as is told where something is wrong.
fn short(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes)).into_owned()
}

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
            short(&object.bytes),
            owner
                .parts
                .iter()
                .map(|part| (
                    part.declared.iter().map(|bytes| short(bytes)).collect(),
                    part.sent.iter().map(|bytes| short(bytes)).collect()
                ))
                .collect::<Vec<(Vec<_>, Vec<_>)>>()
        ))
    }
}
