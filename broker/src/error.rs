//! Every way a request can fail, and what the caller is told: RFC 9457 problems with stable codes.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use shared::PartNumber;
use shared::api::{Problem, UploadState};
use shared::ids::ObjectKeyError;
use shared::part::{Md5DigestError, PartNumberError};
use shared::plan::PlanError;

use crate::key::NameError;
use crate::ledger::{Exceeded, LedgerError, Limit};
use crate::policy::{Overwrite, Right};
use crate::s3::{CredentialsError, StoreError, StoreErrorKind};

/// Every way a request can fail. The caller reads the `error` text; only the log gets the source.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each variant's text says what it means, to the caller as to the reader"
)]
pub enum ApiError {
    #[error("{}", unauthenticated(*.sent, *.optional))]
    Unauthenticated { sent: Sent, optional: bool },
    #[error(
        "there is nothing at this path; /v1/me, /v1/uploads, /presign and /complete are where uploads begin and end"
    )]
    NoSuchRoute,
    #[error("the request cannot be understood ({0})")]
    BadRequest(StatusCode),
    #[error("this path does not take the method {method}; it takes {allowed}")]
    MethodNotAllowed { method: String, allowed: &'static str },
    #[error("the request body has the media type {given:?}; this path takes {expected}")]
    UnsupportedMediaType { given: String, expected: &'static str },
    #[error("the request body is compressed ({0:?}); send it as it is")]
    ContentEncoding(String),
    #[error(
        "the request body is larger than the {limit} bytes that this path takes; files go to the part URLs, not here"
    )]
    BodyTooLarge { limit: usize },
    #[error("the request body ended or broke off before it was whole; send it again")]
    BodyIncomplete,
    #[error(
        "the request body did not come whole within {seconds} seconds; send it faster, or ask for fewer parts at once"
    )]
    BodyTimeout { seconds: u64 },
    #[error("the request body is not the JSON that this path takes: {0}")]
    InvalidJson(String),
    #[error("the form cannot be read: {0}")]
    InvalidForm(String),
    #[error("the query of the URL cannot be used: {0}")]
    InvalidQuery(String),
    #[error("the form lacks the field {0}")]
    MissingField(&'static str),
    #[error("{field} {reason}")]
    InvalidField { field: &'static str, reason: String },
    #[error("the name {0}")]
    InvalidName(NameError),
    #[error("the name makes a key that S3 does not allow: {0}; take a shorter name")]
    InvalidKey(ObjectKeyError),
    #[error("{0}")]
    InvalidPartNumber(#[from] PartNumberError),
    #[error("part {number}: {reason}")]
    InvalidDigest { number: PartNumber, reason: Md5DigestError },
    #[error("part {0} is named twice in one request")]
    PartTwice(PartNumber),
    #[error("{0}")]
    InvalidPlan(#[from] PlanError),
    #[error(
        "no part is declared; send the base64 MD5 of each part as the fields 1, 2, 3 and so on (an empty file is one part)"
    )]
    NoParts,
    #[error("part {missing} is not declared although part {last} is; parts are numbered from 1 without gaps")]
    PartGap { missing: PartNumber, last: PartNumber },
    #[error("{given} parts in one request; at most {limit} are taken, ask in several")]
    TooManyParts { given: usize, limit: usize },
    #[error("{given} entries in one batch; 1 to {limit} are taken, ask in several")]
    BatchSize { given: usize, limit: usize },
    #[error("a file of {size} bytes is too large for a batch, which takes up to {limit}; create an upload of its own")]
    NotSmall { size: u64, limit: u64 },
    #[error("this upload is one PUT of a batch and has no parts; create the file anew for another URL")]
    NoPartsInBatch,
    #[error(
        "this store takes no part without bytes; create the empty object through /v1, or do not upload the empty file"
    )]
    EmptyPart,
    #[error("the file is empty and has no part to send; ask to complete it at once")]
    EmptyFile,
    #[error("there is no destination {name:?}; yours are listed by GET /v1/me, `uploader whoami`")]
    NoSuchDestination { name: String },
    #[error("the ACL {acl:?} is not granted at the destination {destination:?} (granted: {}); leave it out, or ask the operator", if granted.is_empty() { "none" } else { granted })]
    AclNotGranted {
        acl: String,
        granted: String,
        destination: String,
    },
    #[error("{}", not_granted(.who, *.right, .destination.as_deref()))]
    NotGranted {
        who: String,
        right: Right,
        destination: Option<String>,
    },
    #[error("{}; {rule} takes {granted}: name the right type, or ask {}", match .given { Some(given) => format!("the media type {given:?} is not granted"), None => "no media type is said".to_owned() }, .rule.whom())]
    TypeNotGranted {
        given: Option<String>,
        granted: String,
        rule: RuleOf,
    },
    #[error("the file has {size} bytes; {rule} takes at most {max}: send a smaller one, or ask {}", .rule.whom())]
    FileTooLarge { size: u64, max: u64, rule: RuleOf },
    #[error(
        "the upload has {count} parts; the destination {destination:?} takes at most {limit}: ask for larger parts, or ask the \
         operator"
    )]
    TooManyPlanned {
        count: u16,
        limit: u16,
        destination: String,
    },
    #[error("{}", over(*.exceeded, *.asked, .destination))]
    QuotaExceeded {
        exceeded: Exceeded,
        asked: Option<u64>,
        destination: String,
    },
    #[error("there is an object {key:?} already, and {}; take another name, or ask the operator", match .rule { Overwrite::SameOwner => "only who has uploaded it may overwrite it here", Overwrite::Never | Overwrite::Always => "nothing is overwritten here" })]
    KeyTaken { key: String, rule: Overwrite },
    #[error("{0}")]
    InvalidCredential(String),
    #[error(
        "a page of another origin had the browser send this request, or it was sent to a broker without tokens under another name \
         than localhost or an address; send Authorization: Bearer TOKEN, or use a ticket"
    )]
    CrossOrigin,
    #[error("{0}; the token may be good: ask again in a moment")]
    IssuerUnavailable(String),
    #[error("too many requests come from here; ask again in {again_in} s, and then fewer at a time")]
    TooManyRequests { again_in: u64 },
    #[error("there is no such ticket among yours; they are listed by GET /v1/tickets")]
    NoSuchTicket,
    #[error("there is no object {key:?} among those you may see; they are listed by GET /v1/objects, `uploader ls`")]
    NoSuchObject { key: String },
    #[error("part {number} is beyond the {planned} parts planned for this upload")]
    PartNotPlanned { number: PartNumber, planned: u16 },
    #[error("part {number} is declared with {size} bytes; {planned} are planned")]
    PartSize {
        number: PartNumber,
        size: u64,
        planned: u64,
    },
    #[error("there is no such upload among yours; it may have ended or expired: create a new one")]
    NoSuchUpload,
    #[error("this upload {}", ended(*.0))]
    UploadEnded(UploadState),
    #[error("this upload is being completed, or the outcome of that is not known yet; ask again to complete it")]
    UploadBusy,
    #[error("the store no longer knows this upload, and its object is not there; create the upload anew")]
    UploadLost,
    #[error("the size of this upload is not known yet; say it when completing, as {{\"size\": BYTES}}")]
    SizeNeeded,
    #[error(
        "the upload was created with {planned} bytes, and is now to be completed with {given}; the file has changed"
    )]
    SizeChanged { planned: u64, given: u64 },
    #[error("{} of the upload's parts {} not been stored: {}; send them, then complete again", .0.len(), if .0.len() == 1 { "has" } else { "have" }, numbers(.0))]
    PartsMissing(Vec<PartNumber>),
    #[error("parts are stored with another size or MD5 than declared: {}; send them again, then complete again", numbers(.0))]
    PartsWrong(Vec<PartNumber>),
    #[error("the store holds parts that this upload does not have: {}; abort the upload and create it anew", numbers(.0))]
    PartsUnplanned(Vec<PartNumber>),
    #[error(
        "the store made an object of {stored} bytes out of parts of {planned}; do not use it: upload the file anew"
    )]
    ObjectWrong { stored: u64, planned: u64 },
    #[error("{0}; try again in a moment")]
    StoreUnavailable(#[source] StoreError),
    #[error("{0}; the operator has to mend this")]
    StoreRefused(#[source] StoreError),
    #[error("the broker has no storage credentials; the operator has to mend this")]
    NoCredentials(#[source] CredentialsError),
    #[error("the broker's ledger did not answer; ask again in a moment")]
    Ledger(#[from] LedgerError),
    #[error("the request was given up inside the broker; ask again")]
    Interrupted,
    /// A failure of the form protocol's `/complete`, whose clients expect 422 for all of them.
    #[error("{0}")]
    NotCompleted(Box<ApiError>),
}

/// What a request whose sender is not known came with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// No credential.
    Nothing,
    /// A token or ticket in the header.
    Header,
    /// A ticket in the path.
    PathTicket,
}

fn unauthenticated(sent: Sent, optional: bool) -> &'static str {
    match (sent, optional) {
        (Sent::Nothing, _) => {
            "this broker asks for a token; send the header Authorization: Bearer TOKEN with one that it knows"
        }
        (Sent::Header, false) => {
            "this broker does not know the token that was sent, or it has ended or was revoked; send the header \
             Authorization: Bearer TOKEN with one that holds"
        }
        (Sent::Header, true) => {
            "this broker does not know the token that was sent, or it has ended or was revoked; send the header \
             Authorization: Bearer TOKEN with one that holds, or leave the header out"
        }
        (Sent::PathTicket, _) => {
            "this broker does not know the ticket in the path, or it has ended or was revoked; ask whoever gave it to you for \
             another"
        }
    }
}

/// Whose rule it is that an upload does not meet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuleOf {
    /// A destination's.
    Destination(String),
    /// The grant by which the caller may upload to a destination.
    Grant(String),
    /// The ticket's that is used.
    Ticket,
}

impl std::fmt::Display for RuleOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Destination(name) => write!(f, "the destination {name:?}"),
            Self::Grant(name) => write!(f, "your grant at the destination {name:?}"),
            Self::Ticket => f.write_str("this ticket"),
        }
    }
}

impl RuleOf {
    /// Who can change it.
    fn whom(&self) -> &'static str {
        match self {
            Self::Destination(_) | Self::Grant(_) => "the operator",
            Self::Ticket => "whoever gave it to you",
        }
    }
}

fn ended(state: UploadState) -> &'static str {
    match state {
        UploadState::Open => "is open",
        UploadState::Completing => "is being completed",
        UploadState::Completed => "is completed already; its object is there",
        UploadState::Aborted => "was aborted; create a new one",
        UploadState::Expired => "has expired; create a new one",
    }
}

fn not_granted(who: &str, right: Right, destination: Option<&str>) -> String {
    let what = match right {
        Right::Upload => "upload to",
        Right::List => "list",
        Right::Download => "download from",
        Right::Delete => "delete from",
        Right::Tickets => "make tickets for",
        Right::Admin => "see what others upload to",
    };
    let name = right.name();
    match destination {
        None => format!("{who} may not {what} any destination with this credential; the operator can grant {name:?}"),
        Some(destination) => format!(
            "{who} may not {what} the destination {destination:?} with this credential; GET /v1/me tells what it may, and the \
             operator can grant {name:?}"
        ),
    }
}

fn over(exceeded: Exceeded, asked: Option<u64>, destination: &str) -> String {
    let Exceeded { limit, max, taken, .. } = exceeded;
    let asked = asked.map_or_else(
        || "an upload of unknown size".to_owned(),
        |asked| format!("{asked} bytes more"),
    );
    match limit {
        Limit::OpenUploads => format!(
            "{taken} uploads are open at the destination {destination:?}, and open_uploads allows {max}; complete or abort \
             one (GET /v1/uploads lists them), or ask the operator"
        ),
        Limit::BytesPerDay => format!(
            "{taken} bytes are taken at the destination {destination:?} today (UTC), and bytes_per_day allows {max}, so that \
             {asked} cannot be admitted; go on tomorrow, or ask the operator"
        ),
        Limit::TicketFiles => format!(
            "this ticket is for {max} files, and {taken} are uploaded or under way; ask whoever gave it to you for another"
        ),
        Limit::TicketBytes => format!(
            "this ticket is for {max} bytes, and {taken} are taken, so that {asked} cannot be admitted; ask whoever gave it to \
             you for another"
        ),
    }
}

/// At most ten of the numbers: the problem's `parts` has them all.
fn numbers(parts: &[PartNumber]) -> String {
    let mut text = parts
        .iter()
        .take(10)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if parts.len() > 10 {
        text.push_str(", …");
    }
    text
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Busy(_) | StoreErrorKind::Unknown(_) => Self::StoreUnavailable(error),
            StoreErrorKind::NoSuchUpload => Self::UploadLost,
            StoreErrorKind::NoSuchBucket
            | StoreErrorKind::InvalidPart
            | StoreErrorKind::EntityTooSmall
            | StoreErrorKind::Denied(_)
            | StoreErrorKind::ClockSkew
            | StoreErrorKind::PreconditionFailed
            | StoreErrorKind::Refused(_) => Self::StoreRefused(error),
        }
    }
}

impl ApiError {
    /// What the caller is told of an upload in a state in which nothing more can be sent.
    pub fn not_open(state: UploadState) -> Self {
        match state {
            UploadState::Completing | UploadState::Open => Self::UploadBusy,
            UploadState::Completed | UploadState::Aborted => Self::UploadEnded(state),
            UploadState::Expired => Self::NoSuchUpload,
        }
    }

    /// Status and stable code.
    fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated { .. } => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::NoSuchRoute => (StatusCode::NOT_FOUND, "no_such_route"),
            Self::BadRequest(status) if status.is_client_error() => (*status, "bad_request"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::UnsupportedMediaType { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::ContentEncoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodyIncomplete => (StatusCode::BAD_REQUEST, "body_incomplete"),
            Self::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::InvalidForm(_) => (StatusCode::BAD_REQUEST, "invalid_form"),
            Self::InvalidQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query"),
            Self::MissingField(_) => (StatusCode::BAD_REQUEST, "missing_field"),
            Self::InvalidField { .. } => (StatusCode::BAD_REQUEST, "invalid_field"),
            Self::InvalidName(_) => (StatusCode::BAD_REQUEST, "invalid_name"),
            Self::InvalidKey(_) => (StatusCode::BAD_REQUEST, "invalid_key"),
            Self::InvalidPartNumber(_) => (StatusCode::BAD_REQUEST, "invalid_part_number"),
            Self::InvalidDigest { .. } => (StatusCode::BAD_REQUEST, "invalid_digest"),
            Self::PartTwice(_) => (StatusCode::BAD_REQUEST, "part_twice"),
            Self::InvalidPlan(PlanError::TooLarge { .. }) | Self::FileTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large")
            }
            Self::InvalidPlan(PlanError::PartSize(_) | PlanError::TooManyParts { .. }) => {
                (StatusCode::BAD_REQUEST, "invalid_part_size")
            }
            Self::NoParts => (StatusCode::BAD_REQUEST, "no_parts"),
            Self::PartGap { .. } => (StatusCode::BAD_REQUEST, "part_gap"),
            Self::TooManyParts { .. } => (StatusCode::BAD_REQUEST, "too_many_parts"),
            Self::BatchSize { .. } => (StatusCode::BAD_REQUEST, "batch_size"),
            Self::NotSmall { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "not_small"),
            Self::NoPartsInBatch => (StatusCode::CONFLICT, "no_parts_in_batch"),
            Self::EmptyPart => (StatusCode::UNPROCESSABLE_ENTITY, "empty_part"),
            Self::EmptyFile => (StatusCode::CONFLICT, "empty_file"),
            Self::NoSuchDestination { .. } => (StatusCode::FORBIDDEN, "no_such_destination"),
            Self::AclNotGranted { .. } => (StatusCode::FORBIDDEN, "acl_not_granted"),
            Self::NotGranted {
                right: Right::List | Right::Download,
                ..
            } => (StatusCode::FORBIDDEN, "downloads_not_granted"),
            Self::NotGranted { .. } => (StatusCode::FORBIDDEN, "not_granted"),
            Self::TypeNotGranted { .. } => (StatusCode::FORBIDDEN, "type_not_granted"),
            Self::TooManyPlanned { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "too_many_parts_planned"),
            Self::QuotaExceeded { exceeded, .. } => match exceeded.limit {
                Limit::OpenUploads | Limit::BytesPerDay => (StatusCode::TOO_MANY_REQUESTS, "quota_exceeded"),
                Limit::TicketFiles | Limit::TicketBytes => (StatusCode::FORBIDDEN, "ticket_used_up"),
            },
            Self::KeyTaken { .. } => (StatusCode::CONFLICT, "key_taken"),
            Self::InvalidCredential(_) => (StatusCode::UNAUTHORIZED, "invalid_credential"),
            Self::CrossOrigin => (StatusCode::FORBIDDEN, "cross_origin"),
            Self::IssuerUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable"),
            Self::TooManyRequests { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            Self::NoSuchTicket => (StatusCode::NOT_FOUND, "no_such_ticket"),
            Self::NoSuchObject { .. } => (StatusCode::NOT_FOUND, "no_such_object"),
            Self::PartNotPlanned { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "part_not_planned"),
            Self::PartSize { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "part_size"),
            Self::NoSuchUpload => (StatusCode::NOT_FOUND, "no_such_upload"),
            Self::UploadEnded(_) => (StatusCode::CONFLICT, "upload_ended"),
            Self::UploadBusy => (StatusCode::CONFLICT, "upload_busy"),
            Self::UploadLost => (StatusCode::GONE, "upload_lost"),
            Self::SizeNeeded => (StatusCode::BAD_REQUEST, "size_needed"),
            Self::SizeChanged { .. } => (StatusCode::CONFLICT, "size_changed"),
            Self::PartsMissing(_) => (StatusCode::CONFLICT, "parts_missing"),
            Self::PartsWrong(_) => (StatusCode::CONFLICT, "parts_wrong"),
            Self::PartsUnplanned(_) => (StatusCode::CONFLICT, "parts_unplanned"),
            Self::ObjectWrong { .. } => (StatusCode::BAD_GATEWAY, "object_wrong"),
            Self::StoreUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            Self::StoreRefused(_) => (StatusCode::BAD_GATEWAY, "store_refused"),
            Self::NoCredentials(_) => (StatusCode::BAD_GATEWAY, "no_credentials"),
            Self::Ledger(_) => (StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable"),
            Self::Interrupted => (StatusCode::SERVICE_UNAVAILABLE, "interrupted"),
            Self::NotCompleted(cause) => (StatusCode::UNPROCESSABLE_ENTITY, cause.code()),
        }
    }

    /// Stable name of the failure, for machines.
    pub fn code(&self) -> &'static str {
        self.answer().1
    }

    /// The HTTP status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.answer().0
    }

    /// Seconds after which asking again makes sense.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::StoreUnavailable(_) | Self::Ledger(_) | Self::Interrupted | Self::UploadBusy => Some(2),
            Self::IssuerUnavailable(_) => Some(10),
            Self::TooManyRequests { again_in } => Some(*again_in),
            // What is open ends sooner or later.
            Self::QuotaExceeded { exceeded, .. } if exceeded.limit == Limit::OpenUploads => Some(60),
            Self::QuotaExceeded { exceeded, .. } => exceeded.again_in,
            Self::NotCompleted(cause) => cause.retry_after(),
            _ => None,
        }
    }

    fn parts(&self) -> Vec<PartNumber> {
        match self {
            Self::PartsMissing(parts) | Self::PartsWrong(parts) | Self::PartsUnplanned(parts) => parts.clone(),
            Self::InvalidDigest { number, .. }
            | Self::PartTwice(number)
            | Self::PartNotPlanned { number, .. }
            | Self::PartSize { number, .. } => vec![*number],
            Self::NotCompleted(cause) => cause.parts(),
            _ => Vec::new(),
        }
    }

    /// As the caller is told.
    pub fn problem(&self, request_id: &str) -> Problem {
        let (status, code) = self.answer();
        let mut title = code.replace('_', " ");
        if let Some(first) = title.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        Problem {
            kind: format!("urn:upload-broker:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
            code: code.to_owned(),
            request_id: request_id.to_owned(),
            parts: self.parts(),
            status_code: None,
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    /// Without a body: the problem needs the request's id, which [`crate::app`] adds to every failure on its way out.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status())
    }
}
