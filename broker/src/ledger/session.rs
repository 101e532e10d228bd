//! One upload as the ledger knows it.

use std::collections::BTreeMap;

use shared::api::UploadState;
use shared::{ETag, Md5Digest, ObjectKey, PartNumber, PartPlan, PartSizes, UploadId};
use sqlx::any::AnyRow;
use sqlx::{Decode, Row, Type};
use time::OffsetDateTime;

use super::LedgerError;
use crate::policy::CreateGrant;

/// How an upload's bytes are cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plan {
    /// The size is known, and so is every part's.
    Sized(PartPlan),
    /// The size is not known yet: parts of these sizes until the source ends.
    Stream(PartSizes),
    /// The form protocol: the client cut the file and said only how many parts there are.
    Counted {
        /// Parts 1 to this.
        part_count: u16,
    },
}

impl Plan {
    /// Bytes in the file, if known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Sized(plan) => Some(plan.size()),
            Self::Stream(_) | Self::Counted { .. } => None,
        }
    }

    /// Bytes in every part but the last, or in the first one of those that grow; if the broker planned it.
    pub fn part_size(&self) -> Option<u64> {
        match self {
            Self::Sized(plan) => Some(plan.part_size()),
            Self::Stream(sizes) => Some(sizes.part_size(PartNumber::FIRST)),
            Self::Counted { .. } => None,
        }
    }

    /// How many parts there are, if known.
    pub fn part_count(&self) -> Option<u16> {
        match self {
            Self::Sized(plan) => Some(plan.part_count()),
            Self::Stream(_) => None,
            Self::Counted { part_count } => Some(*part_count),
        }
    }

    /// Whether the parts of a stream grow.
    pub fn growing_parts(&self) -> bool {
        *self == Self::Stream(PartSizes::Growing)
    }

    /// As the columns `size`, `part_size`, `part_count` hold it.
    pub(super) fn columns(&self) -> (Option<i64>, Option<i64>, Option<i64>) {
        let wide = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        (
            self.size().map(wide),
            match self {
                Self::Stream(sizes) => Some(column_of(*sizes)),
                Self::Sized(_) | Self::Counted { .. } => self.part_size().map(wide),
            },
            self.part_count().map(i64::from),
        )
    }

    fn from_columns(size: Option<i64>, part_size: Option<i64>, part_count: Option<i64>) -> Option<Self> {
        let size = size.map(u64::try_from).transpose().ok()?;
        let part_size = part_size.map(u64::try_from).transpose().ok()?;
        match (size, part_size, part_count) {
            (Some(size), Some(part_size), _) => PartPlan::for_size(size, Some(part_size), u64::MAX)
                .ok()
                .map(Self::Sized),
            (None, Some(_), None) => part_size.map(sizes_in).map(Self::Stream),
            (None, None, Some(count)) => match u16::try_from(count) {
                Ok(part_count @ 1..=PartNumber::MAX) => Some(Self::Counted { part_count }),
                Ok(_) | Err(_) => None,
            },
            _ => None,
        }
    }
}

/// The column `part_size` of a stream: 0 where its parts grow, which no equal parts can be of.
fn column_of(sizes: PartSizes) -> i64 {
    match sizes {
        PartSizes::Equal(size) => i64::try_from(size).unwrap_or(i64::MAX),
        PartSizes::Growing => 0,
    }
}

/// What the column `part_size` says.
pub(super) fn sizes_in(column: u64) -> PartSizes {
    match column {
        0 => PartSizes::Growing,
        size => PartSizes::Equal(size),
    }
}

/// One upload: what was admitted, and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The broker's name for it.
    pub id: UploadId,
    /// Who may touch it.
    pub owner: String,
    /// Whose limits it counts against: the owner, or whoever made the owner's ticket.
    pub grantee: String,
    /// Where it goes.
    pub destination: String,
    /// The bucket it goes to; kept, so that a change of the settings does not move open uploads.
    pub bucket: String,
    /// As the client named it.
    pub name: String,
    /// Where the object is or will be.
    pub key: ObjectKey,
    /// The store's name for it; absent for an empty file.
    pub store_upload_id: Option<String>,
    /// MD5 of a small file that goes up whole, by one PUT and not in parts.
    pub put_md5: Option<Md5Digest>,
    /// How it is cut.
    pub plan: Plan,
    /// Bytes that a stream came to, once its owner has said so in asking to complete it.
    pub stated_size: Option<u64>,
    /// Bytes that are set aside for it: its size, or the most that it may come to.
    pub reserved: u64,
    /// Media type of the object.
    pub content_type: Option<String>,
    /// `Content-Disposition` of the object, where it has to have one.
    pub content_disposition: Option<String>,
    /// Canned ACL of the object.
    pub acl: Option<String>,
    /// User metadata of the object, without the write token.
    pub metadata: BTreeMap<String, String>,
    /// Stands in the object's metadata: by it an object is known to come from this upload.
    pub write_token: String,
    /// Where it stands.
    pub state: UploadState,
    /// The object, once completed.
    pub object: Option<StoredObject>,
    /// When it was admitted.
    pub created_at: OffsetDateTime,
    /// When it ends if it is not completed.
    pub expires_at: OffsetDateTime,
}

/// The object that an upload became.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredObject {
    /// As HEAD answered.
    pub etag: ETag,
    /// Its bytes.
    pub size: u64,
    /// On a versioned bucket.
    pub version_id: Option<String>,
}

impl Session {
    /// The state at this instant: an open upload past its end is expired, whether or not anybody has recorded it.
    pub fn state_at(&self, now: OffsetDateTime) -> UploadState {
        match self.state {
            UploadState::Open if self.expires_at <= now => UploadState::Expired,
            state => state,
        }
    }

    /// The upload as [`Ledger::admit`](super::Ledger::admit) has just recorded it.
    pub fn admitted(id: UploadId, grant: &CreateGrant, reserved: u64, store_upload_id: Option<String>) -> Self {
        Self {
            id,
            owner: grant.owner.clone(),
            grantee: grant.grantee.clone(),
            destination: grant.destination.clone(),
            bucket: grant.bucket.clone(),
            name: grant.name.to_string(),
            key: grant.key.clone(),
            store_upload_id,
            put_md5: None,
            plan: grant.plan,
            stated_size: None,
            reserved,
            content_type: grant.content_type.clone(),
            content_disposition: grant.content_disposition.map(str::to_owned),
            acl: grant.acl.clone(),
            metadata: grant.metadata.clone(),
            write_token: grant.write_token.clone(),
            state: UploadState::Open,
            object: None,
            created_at: grant.created_at,
            expires_at: grant.expires_at,
        }
    }

    pub(super) fn from_row(row: &AnyRow) -> Result<Self, LedgerError> {
        let id: String = row.try_get("id")?;
        let unreadable = |what: &str| LedgerError::Row {
            id: id.clone(),
            what: what.to_owned(),
        };
        let plan = Plan::from_columns(
            row.try_get("size")?,
            row.try_get("part_size")?,
            row.try_get("part_count")?,
        )
        .ok_or_else(|| unreadable("plan"))?;
        let etag: Option<String> = row.try_get("etag")?;
        let object_size: Option<i64> = row.try_get("object_size")?;
        let object = match (etag, object_size.and_then(|size| u64::try_from(size).ok())) {
            (Some(etag), Some(size)) => Some(StoredObject {
                etag: ETag::new(etag),
                size,
                version_id: row.try_get("version_id")?,
            }),
            _ => None,
        };
        let instant = |column: &str| super::instant(row.try_get(column)?).ok_or_else(|| unreadable(column));
        Ok(Self {
            owner: row.try_get("owner")?,
            grantee: row.try_get("grantee")?,
            destination: row.try_get("destination")?,
            bucket: row.try_get("bucket")?,
            name: row.try_get("name")?,
            key: get::<String>(row, "object_key")?
                .try_into()
                .map_err(|_| unreadable("object_key"))?,
            store_upload_id: row.try_get("store_upload_id")?,
            put_md5: get::<Option<String>>(row, "put_md5")?
                .map(|hex| Md5Digest::from_hex(&hex).ok_or_else(|| unreadable("put_md5")))
                .transpose()?,
            plan,
            stated_size: get::<Option<i64>>(row, "stated_size")?.and_then(|size| u64::try_from(size).ok()),
            reserved: u64::try_from(get::<i64>(row, "reserved")?).unwrap_or_default(),
            content_type: row.try_get("content_type")?,
            content_disposition: row.try_get("content_disposition")?,
            acl: row.try_get("acl")?,
            metadata: serde_json::from_str(&get::<String>(row, "metadata")?).map_err(|_| unreadable("metadata"))?,
            write_token: row.try_get("write_token")?,
            state: state(&id, &get::<String>(row, "state")?)?,
            object,
            created_at: instant("created_at")?,
            expires_at: instant("expires_at")?,
            id: id.clone().try_into().map_err(|_| unreadable("id"))?,
        })
    }
}

fn get<'r, T: Decode<'r, sqlx::Any> + Type<sqlx::Any>>(row: &'r AnyRow, column: &str) -> Result<T, sqlx::Error> {
    row.try_get(column)
}

pub(super) fn state(id: &str, text: &str) -> Result<UploadState, LedgerError> {
    match text {
        "open" => Ok(UploadState::Open),
        "completing" => Ok(UploadState::Completing),
        "completed" => Ok(UploadState::Completed),
        "aborted" => Ok(UploadState::Aborted),
        "expired" => Ok(UploadState::Expired),
        other => Err(LedgerError::Row {
            id: id.to_owned(),
            what: format!("state {other:?}"),
        }),
    }
}
