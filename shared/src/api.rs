//! The JSON protocol, `/v1`: a request and a response for each route.
//!
//! | operation | route | request | response |
//! | --- | --- | --- | --- |
//! | create | `POST /v1/uploads` | [`CreateUpload`] | `201` or `200` [`UploadCreated`] |
//! | sign parts | `POST /v1/uploads/{id}/parts` | [`SignParts`] | [`SignedParts`] |
//! | status | `GET /v1/uploads/{id}` | | [`UploadStatus`] |
//! | complete | `POST /v1/uploads/{id}/complete` | [`CompleteUpload`], or no body | `200` [`CompletedObject`], or `202` [`Completing`] |
//! | abort | `DELETE /v1/uploads/{id}` | | `204` |
//! | events | `GET /v1/uploads/{id}/events` | [`ListEvents`] | [`UploadEvents`] |
//! | create many small files | `POST /v1/batches` | [`CreateBatch`] | [`CreatedBatch`] |
//! | complete them | `POST /v1/batches/complete` | [`CompleteBatch`] | [`CompletedBatch`] |
//! | open uploads | `GET /v1/uploads` | [`ListUploads`] | [`OpenUploads`] |
//! | objects | `GET /v1/objects` | [`ListObjects`] | [`ObjectList`] |
//! | download | `POST /v1/downloads` | [`CreateDownload`] | [`Download`] |
//! | delete | `DELETE /v1/objects` | [`DeleteObject`] | |
//! | tickets | `POST /v1/tickets`, `GET /v1/tickets`, `DELETE /v1/tickets/{id}` | [`CreateTicket`], [`ListTickets`] | [`TicketCreated`], [`Tickets`] |
//! | me | `GET /v1/me` | | [`Me`] |
//!
//! Every failure is a [`Problem`]. Requests refuse fields they do not know, so that a misspelt one is not silently lost;
//! clients must ignore fields they do not know, so that answers can grow.

mod object;
mod tickets;

pub use object::Object;
pub use tickets::{CreateTicket, ListTickets, MAX_TICKET_LIFE, TicketCreated, TicketInfo, Tickets};

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{ETag, EventId, Md5Digest, ObjectKey, PartNumber, UploadId};

/// Most parts that one [`SignParts`] may ask for.
pub const MAX_PARTS_PER_SIGN: usize = 1000;

/// Asks to upload one file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUpload {
    /// The file's name, from which the destination's template makes the key. May hold `/`.
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::FileName"))]
    pub name: String,
    /// Bytes in the file; leave out when it is not known yet, as for a pipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(max = crate::plan::MAX_OBJECT_SIZE)))]
    pub size: Option<u64>,
    /// Media type of the object (RFC 9110 section 8.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<crate::schema::MediaType>"))]
    pub content_type: Option<String>,
    /// Canned ACL; refused where the policy does not grant it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<String>,
    /// User metadata, names without the `x-amz-meta-` prefix; 2 KB in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Metadata"))]
    pub metadata: BTreeMap<String, String>,
    /// Which of the broker's destinations; left out, the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Names the content for resuming, at most 128 bytes without control characters. Creating again with the same destination, name, size and
    /// fingerprint finds the upload that is still open. The broker only compares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schemars(length(max = 128), regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"))
    )]
    pub fingerprint: Option<String>,
    /// Bytes in every part but the last; left out, the broker chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = crate::plan::MIN_PART_SIZE, max = crate::plan::MAX_PART_SIZE)))]
    pub part_size: Option<u64>,
    /// Whether the parts may grow as [`PartSizes::Growing`](crate::PartSizes::Growing) says: only where the size is not known.
    /// On a store whose parts must be equal, `part_size` holds.
    #[serde(default, skip_serializing_if = "is_false")]
    pub growing_parts: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// How the bytes of each part are protected on their way.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// Declare each part's MD5 when it is signed; the store refuses a body that does not match its `Content-MD5`.
    ContentMd5,
}

/// An upload that is open: `201` when it is new, `200` when it was found by its fingerprint.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct UploadCreated {
    /// What every later request names it by.
    pub upload_id: UploadId,
    /// [`UploadState::Open`]; or [`UploadState::Completing`] for an upload found by its fingerprint whose completion was
    /// interrupted: ask to complete it, nothing need be sent.
    pub state: UploadState,
    /// Where the object will be.
    pub key: ObjectKey,
    /// Bytes in every part but the last; where parts grow, in the first one.
    pub part_size: u64,
    /// Whether the parts grow as [`PartSizes::Growing`](crate::PartSizes::Growing) says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub growing_parts: bool,
    /// How many parts to send; absent while the size is unknown; 0 for an empty file, which is completed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_count: Option<u16>,
    /// How parts are protected.
    pub integrity: Integrity,
    /// When the upload ends if it is not completed.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub expires_at: OffsetDateTime,
    /// Seconds until then, by the broker's clock.
    pub expires_in: u64,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
    /// What the store holds already, in order; empty for a new upload.
    pub parts: Vec<StoredPart>,
}

/// A part that the store holds.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct StoredPart {
    /// Its place.
    pub number: PartNumber,
    /// Its bytes.
    pub size: u64,
    /// What the store calls it; the MD5 in hexadecimal on most stores.
    pub etag: ETag,
}

/// Asks for URLs: only for the parts about to be sent, since the URLs soon expire.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignParts {
    /// 1 to [`MAX_PARTS_PER_SIGN`] parts.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = MAX_PARTS_PER_SIGN)))]
    #[serde(deserialize_with = "object::objects")]
    pub parts: Vec<PartToSign>,
}

/// One part about to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PartToSign {
    /// Its place.
    pub number: PartNumber,
    /// MD5 of its bytes; given, the URL works for no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<Md5Digest>,
    /// Its bytes; needed only while the upload's size is unknown, else it must be as planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(max = crate::plan::MAX_PART_SIZE)))]
    pub size: Option<u64>,
}

/// URLs for the parts asked for, in the order asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct SignedParts {
    /// One for each part.
    pub parts: Vec<SignedPart>,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

/// Where and how to send one part.
#[derive(Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct SignedPart {
    /// Its place.
    pub number: PartNumber,
    /// The HTTP method; `PUT`.
    pub method: String,
    /// The presigned URL. A secret while it lives: never logged.
    pub url: String,
    /// Headers to send exactly so, besides `Host` and `Content-Length`.
    pub headers: BTreeMap<String, String>,
    /// When the URL stops working.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub expires_at: OffsetDateTime,
    /// Seconds until then.
    pub expires_in: u64,
}

impl std::fmt::Debug for SignedPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("SignedPart")
            .field("number", &self.number)
            .field("url", &path)
            .finish_non_exhaustive()
    }
}

/// Where an upload stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// Parts may be sent.
    Open,
    /// A request is having the store join the parts, or did so and does not yet know the outcome.
    Completing,
    /// The object is there.
    Completed,
    /// Given up by its owner.
    Aborted,
    /// Not completed in time.
    Expired,
}

/// What the broker and the store know of an upload.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct UploadStatus {
    /// The upload asked about.
    pub upload_id: UploadId,
    /// Where it stands.
    pub state: UploadState,
    /// The name given at create.
    pub name: String,
    /// Where the object is or will be.
    pub key: ObjectKey,
    /// Bytes in the file, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes in every part but the last; absent for an upload of the form protocol, whose client plans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_size: Option<u64>,
    /// Whether the parts grow from there, as [`PartSizes::Growing`](crate::PartSizes::Growing) says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub growing_parts: bool,
    /// How many parts there will be, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_count: Option<u16>,
    /// When it ends if it is not completed.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub expires_at: OffsetDateTime,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
    /// What the store holds, in order; empty unless the upload is open.
    pub parts: Vec<StoredPart>,
    /// The object, once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<CompletedObject>,
}

/// Asks to have the parts joined.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CompleteUpload {
    /// Bytes in the whole file: needed only where create did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(max = crate::plan::MAX_OBJECT_SIZE)))]
    pub size: Option<u64>,
}

/// The finished object.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CompletedObject {
    /// Where it is.
    pub key: ObjectKey,
    /// What the store calls this version.
    pub etag: ETag,
    /// Whether the store's ETags are made of MD5s, so that the object can be held to what was sent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub etag_is_md5: bool,
    /// Its bytes.
    pub size: u64,
    /// On a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Its URL at the store's public address, unsigned.
    pub location: String,
}

/// Another request is completing this upload: ask again.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Completing {
    /// Always [`UploadState::Completing`].
    pub state: UploadState,
    /// Seconds to wait before asking again; also the `Retry-After` header.
    pub retry_after: u64,
}

/// Asks to upload many small files, each in one request to the store.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateBatch {
    /// 1 to [`MAX_BATCH`] files.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = MAX_BATCH)))]
    #[serde(deserialize_with = "object::objects")]
    pub files: Vec<BatchFile>,
}

/// Most files of one batch.
pub const MAX_BATCH: usize = 500;
/// Most bytes of one file in a batch.
pub const MAX_BATCH_FILE: u64 = 8 * crate::MIB;

/// One small file. Fields are as in [`CreateUpload`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BatchFile {
    /// The file's name.
    pub name: String,
    /// Its bytes, at most [`MAX_BATCH_FILE`].
    #[cfg_attr(feature = "openapi", schemars(range(max = u64::MAX)))]
    pub size: u64,
    /// MD5 of its bytes; the URL works for no others.
    pub md5: Md5Digest,
    /// Media type of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Canned ACL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<String>,
    /// User metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Which of the broker's destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// An answer for each file of a batch, in the order asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CreatedBatch {
    /// One for each file.
    pub files: Vec<BatchUpload>,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

/// What became of one file of a batch: an upload, or a problem.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum BatchUpload {
    /// It may be sent.
    Admitted {
        /// What later requests name it by.
        upload_id: UploadId,
        /// Where the object will be.
        key: ObjectKey,
        /// Where and how to send it; absent for a file that has no bytes to send and is completed at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<SignedRequest>,
    },
    /// It may not.
    Refused {
        /// Why.
        problem: Problem,
    },
}

/// Where and how to send one small file.
#[derive(Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct SignedRequest {
    /// The HTTP method; `PUT`.
    pub method: String,
    /// The presigned URL. A secret while it lives: never logged.
    pub url: String,
    /// Headers to send exactly so, besides `Host` and `Content-Length`.
    pub headers: BTreeMap<String, String>,
    /// When the URL stops working.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub expires_at: OffsetDateTime,
    /// Seconds until then.
    pub expires_in: u64,
}

impl std::fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("SignedRequest")
            .field("url", &path)
            .finish_non_exhaustive()
    }
}

/// Says that files of batches have been sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CompleteBatch {
    /// 1 to [`MAX_BATCH`] uploads.
    #[cfg_attr(feature = "openapi", schemars(length(min = 1, max = MAX_BATCH)))]
    pub uploads: Vec<UploadId>,
}

/// An answer for each upload, in the order asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct CompletedBatch {
    /// One for each upload.
    pub uploads: Vec<BatchOutcome>,
}

/// What became of one upload: an object, or a problem.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum BatchOutcome {
    /// The object is there.
    Completed {
        /// The upload.
        upload_id: UploadId,
        /// Its object.
        object: CompletedObject,
    },
    /// It is not, or not known to be.
    Failed {
        /// The upload.
        upload_id: UploadId,
        /// Why.
        problem: Problem,
    },
}

/// Asks, as a query, for the caller's uploads that have not ended.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListUploads {
    /// `next_cursor` of the page before; left out for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<UploadId>"))]
    pub cursor: Option<String>,
    /// Most uploads on the page, 1 to [`MAX_PAGE`]; that many if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = MAX_PAGE)))]
    pub limit: Option<u16>,
}

/// Most entries on one page of a listing.
pub const MAX_PAGE: u16 = 1000;

/// One page of the caller's uploads that have not ended, in no order that means anything.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct OpenUploads {
    /// The uploads.
    pub uploads: Vec<OpenUpload>,
    /// Asks for the page after this one; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

/// An upload that has not ended, as the ledger knows it; `GET /v1/uploads/{id}` also says what the store holds of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct OpenUpload {
    /// What requests name it by.
    pub upload_id: UploadId,
    /// [`UploadState::Open`] or [`UploadState::Completing`].
    pub state: UploadState,
    /// The name given at create.
    pub name: String,
    /// Where the object will be.
    pub key: ObjectKey,
    /// Bytes in the file, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub created_at: OffsetDateTime,
    /// When it ends if it is not completed.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub expires_at: OffsetDateTime,
}

/// Asks, as a query, for what has happened to an upload.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListEvents {
    /// `next_cursor` of the page before; left out for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<EventId>,
    /// Most events on the page, 1 to [`MAX_PAGE`]; that many if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = MAX_PAGE)))]
    pub limit: Option<u16>,
}

/// One page of what has happened to an upload, in the order in which it was recorded.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct UploadEvents {
    /// The events.
    pub events: Vec<UploadEvent>,
    /// Asks for the page after this one; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<EventId>,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

/// Something that happened to an upload.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct UploadEvent {
    /// Names this event among all of the broker's.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When, by the clock of the broker that recorded it.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub at: OffsetDateTime,
    /// Who did it: a principal, or `sweeper` without an address for the broker itself.
    pub actor: String,
    /// From where; absent where nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What else there is to say.
    #[serde(flatten)]
    pub detail: EventDetail,
}

/// What can happen to an upload.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It was admitted.
    Created,
    /// URLs were signed for some of its parts.
    PartsSigned,
    /// The object is there.
    Completed,
    /// It was given up.
    Aborted,
    /// It was not completed in time.
    Expired,
}

impl EventKind {
    /// As answers spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::PartsSigned => "parts_signed",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
        }
    }
}

/// What there is to say of an event beside its kind; each field only where it applies.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct EventDetail {
    /// Bytes in the file as planned, or in the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How many parts were signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u16>,
    /// The lowest of their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_part: Option<PartNumber>,
    /// The highest of their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_part: Option<PartNumber>,
    /// The object's ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<ETag>,
    /// The object's version, on a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The code of the problem for which the broker gave the upload up itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Asks, as a query, for objects that the caller may see.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListObjects {
    /// Which of the broker's destinations; left out, the first that the caller may list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// What the keys begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<crate::schema::KeyText>"))]
    pub prefix: Option<String>,
    /// Keys that have it after the prefix are not listed but summed up in `prefixes`; usually `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<crate::schema::KeyText>"))]
    pub delimiter: Option<String>,
    /// `next_cursor` of the page before; left out for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(length(min = 1)))]
    pub cursor: Option<String>,
    /// Most entries on the page, 1 to [`MAX_PAGE`]; that many if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = MAX_PAGE)))]
    pub limit: Option<u16>,
}

/// One page of objects, in the order of their keys.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ObjectList {
    /// What all these keys begin with: as asked, or what the caller may see of that.
    pub prefix: String,
    /// The objects.
    pub objects: Vec<ListedObject>,
    /// With a delimiter: what the other keys begin with, up to the delimiter and with it.
    pub prefixes: Vec<String>,
    /// Asks for the page after this one; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An object as a listing tells it.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ListedObject {
    /// Where it is.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// What the store calls this version.
    pub etag: ETag,
    /// When the store got it.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub last_modified: OffsetDateTime,
}

/// Asks for a URL to download one object by.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateDownload {
    /// The object's key.
    pub key: ObjectKey,
    /// Which of the broker's destinations; left out, the first from which the caller may download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// Asks, as a query, to delete one object.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeleteObject {
    /// The object's key.
    pub key: ObjectKey,
    /// Which of the broker's destinations; left out, the first from which the caller may delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// Where and how to download one object.
#[derive(Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Download {
    /// The object's key.
    pub key: ObjectKey,
    /// The HTTP method; `GET`.
    pub method: String,
    /// The presigned URL, good for any number of requests and for `Range`. A secret while it lives: never logged.
    pub url: String,
    /// The object's bytes.
    pub size: u64,
    /// What the store calls this version; sent as `If-Match`, no other version is answered with.
    pub etag: ETag,
    /// Whether the store's ETags are made of MD5s, so that what arrives can be held to this one.
    pub etag_is_md5: bool,
    /// Bytes in every part of it but the last, where it came through this broker: the ETag is made of their MD5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_size: Option<u64>,
    /// Whether the parts grow from there, as [`PartSizes::Growing`](crate::PartSizes::Growing) says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub growing_parts: bool,
    /// When the URL stops working.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub expires_at: OffsetDateTime,
    /// Seconds until then.
    pub expires_in: u64,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("key", &self.key)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

/// Who the broker takes the caller for, and what they may do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Me {
    /// The principal's name; `anonymous` without a token.
    pub principal: String,
    /// Where this principal may upload; the first is the default.
    pub destinations: Vec<DestinationInfo>,
    /// What holds for every upload.
    pub limits: Limits,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

/// One place to upload to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct DestinationInfo {
    /// As `destination` in [`CreateUpload`] names it.
    pub name: String,
    /// How keys are made, for example `{principal}/{date}/{uuid}/{name}`.
    pub key_template: String,
    /// Most bytes of one file.
    pub max_size: u64,
    /// Canned ACLs that may be asked for.
    pub acls: Vec<String>,
    /// What the caller may do there: `upload`, `list`, `download`, `delete`, `tickets`, `admin`.
    #[serde(default)]
    pub may: Vec<String>,
    /// Media types that uploads may have, `image/*` for all of a kind; any where there are none.
    #[serde(default)]
    pub content_types: Vec<String>,
    /// Most uploads that the caller may have open there at once, where there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_uploads: Option<u32>,
    /// Most bytes that the caller may upload there on one day (UTC), where there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_day: Option<u64>,
    /// Whether the caller may list and download what is there.
    #[serde(default)]
    pub downloads: bool,
    /// Tells the store's bucket from every other, and nothing else about it. What a client has noted of objects in one holds
    /// in no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_id: Option<String>,
}

/// What holds for every upload.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Most parts that one sign request may ask for.
    pub max_parts_per_sign: usize,
    /// Most parts of one upload.
    pub max_parts: u16,
    /// Most files of one batch.
    #[serde(default)]
    pub max_batch: usize,
    /// Most bytes of one file in a batch.
    #[serde(default)]
    pub max_batch_file: u64,
    /// Least bytes of every part but the last.
    pub min_part_size: u64,
    /// Most bytes of a part.
    pub max_part_size: u64,
    /// Whether the store takes parts of different sizes, so that those of a stream may grow.
    #[serde(default)]
    pub growing_parts: bool,
    /// Seconds that a part URL lives.
    pub url_expires_in: u64,
    /// Seconds that an upload stays open.
    pub upload_expires_in: u64,
}

/// Every failure, as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Problem {
    /// A URI reference for the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened to which thing, and what to do.
    pub detail: String,
    /// The kind for machines: stable, snake_case.
    pub code: String,
    /// Finds this request in the broker's log; also the `x-request-id` header.
    pub request_id: String,
    /// The parts that the problem is about: to be sent (again) before completing, where the code is `parts_missing` or
    /// `parts_wrong`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartNumber>,
    /// Only in answers of the form protocol's `/complete` and `/abort`: the HTTP status under the name that its clients read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_refused_not_lost() {
        let answer = serde_json::from_str::<CreateUpload>(r#"{"name": "a", "content-type": "text/plain"}"#);
        assert!(answer.unwrap_err().to_string().contains("content-type"));
    }

    #[test]
    fn a_list_of_values_is_no_request_even_where_they_stand_in_the_order_of_the_fields() {
        for list in [r#"["a"]"#, "[]", "[null, null]"] {
            let error = serde_json::from_str::<Object<CreateTicket>>(list).unwrap_err();
            assert!(error.to_string().contains("expected an object"), "{list}: {error}");
        }
        assert!(serde_json::from_str::<SignParts>(r#"{"parts": [[1]]}"#).is_err());
        assert!(serde_json::from_str::<CreateBatch>(r#"{"files": [["a", 0, "1B2M2Y8AsgTpgAmY7PhCfg=="]]}"#).is_err());
        let asked: Object<SignParts> = serde_json::from_str(r#"{"parts": [{"number": 1}, {"number": 2}]}"#).unwrap();
        assert_eq!(asked.0.parts.len(), 2);
    }

    #[test]
    fn a_signed_part_does_not_show_its_signature() {
        let part = SignedPart {
            number: PartNumber::FIRST,
            method: "PUT".into(),
            url: "http://127.0.0.1/bucket/key?X-Amz-Signature=secret".into(),
            headers: BTreeMap::new(),
            expires_at: OffsetDateTime::UNIX_EPOCH,
            expires_in: 900,
        };
        assert!(!format!("{part:?}").contains("secret"));
    }
}
