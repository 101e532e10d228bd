//! Who may put what, how large, where: pure functions whose yes is a grant, which nothing else can make.
//!
//! The store client creates only what a [`CreateGrant`] says, and the signer signs only what a [`PartsGrant`] says.

mod access;
mod destination;
mod fields;
#[cfg(test)]
mod tests;
mod tickets;

use std::collections::BTreeMap;
use std::time::Duration;

use shared::api::{BatchFile, CreateUpload, Limits, MAX_BATCH, MAX_BATCH_FILE, MAX_PARTS_PER_SIGN};
use shared::plan::{self, PlanError};
use shared::{MIB, Md5Digest, ObjectKey, PartNumber, PartPlan, PartSizes};
use time::OffsetDateTime;

pub use self::access::{Grantee, Right, Rule, RuleLimits, Touch, is_role, refused};
use self::destination::type_among;
pub use self::destination::{CANNED_ACLS, Destination, Overwrite, is_acl, is_type, meeting};
pub use self::fields::MAX_METADATA_LEN;
pub use self::fields::shortened;
use self::fields::{check_content_type, check_metadata};
use crate::error::{ApiError, RuleOf};
use crate::key::UploadName;
use crate::ledger::{Plan, Quota, Session};
use crate::principal::Principal;
use crate::sign::object::is_canonical;
use crate::sign::{MAX_URL_LIFE, Part};

/// Size of equal parts of a stream, unless the client asks for another: room for 625 GiB.
const STREAM_PART_SIZE: u64 = 64 * MIB;
/// The user metadata, without `x-amz-meta-`, by which an object is known to come from one certain upload.
pub const WRITE_TOKEN: &str = "broker-write-token";
/// Characters of its value.
const WRITE_TOKEN_LEN: usize = 32;

/// All the rules there are.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where uploads go; the first is meant where a request names none.
    pub destinations: Vec<Destination>,
    /// Who may do what there: the first that fits decides.
    pub rules: Vec<Rule>,
    /// Whether the store takes a part without bytes; all stores can hold empty objects.
    pub zero_byte_part: bool,
    /// Whether the store is known to be safe to give URLs for whole objects away for.
    pub single_put: bool,
    /// Whether all parts but the last have to be of one size.
    pub equal_parts: bool,
}

/// Randomness for one upload, an argument so that tests can choose it.
#[derive(Clone, Copy, Debug)]
pub struct UploadRandom {
    /// For `{uuid}` in the key.
    pub uuid: [u8; 16],
    /// For the write token.
    pub token: [u8; 16],
}

/// Permission to create one upload.
#[derive(Clone, Debug)]
pub struct CreateGrant {
    pub(crate) owner: String,
    /// Whose limits it counts against.
    pub(crate) grantee: String,
    /// The token or ticket that it ends with.
    pub(crate) credential: Option<String>,
    pub(crate) destination: String,
    pub(crate) bucket: String,
    pub(crate) name: UploadName,
    pub(crate) key: ObjectKey,
    pub(crate) plan: Plan,
    pub(crate) content_type: Option<String>,
    /// What keeps it from running in browsers, where it would.
    pub(crate) content_disposition: Option<&'static str>,
    pub(crate) acl: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) quota: Quota,
    /// Its bytes, or the most that it may come to.
    pub(crate) reserved: u64,
    pub(crate) overwrite: Overwrite,
    pub(crate) write_token: String,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) expires_at: OffsetDateTime,
    _made_here: (),
}

/// What a client of the form protocol asks for.
#[derive(Clone, Debug, Default)]
pub struct FormUpload {
    /// `keyname`
    pub name: String,
    /// `expires`, seconds
    pub expires_in: u64,
    /// `contenttype`
    pub content_type: Option<String>,
    /// `x-amz-acl`
    pub acl: Option<String>,
    /// `x-amz-meta-*`, without the prefix
    pub metadata: BTreeMap<String, String>,
    /// `1`..`10000`, in order, without gaps
    pub digests: Vec<Md5Digest>,
}

/// What both protocols ask for.
struct Asked {
    name: String,
    plan: Plan,
    content_type: Option<String>,
    acl: Option<String>,
    metadata: BTreeMap<String, String>,
    fingerprint: Option<String>,
}

/// Permission to upload one small file, whole if the store and its headers allow it.
#[derive(Clone, Debug)]
pub struct SmallGrant {
    pub(crate) upload: CreateGrant,
    pub(crate) md5: Md5Digest,
    /// Every header of the one PUT but `Host`, names in lower case; nothing where it has to go up as a part.
    pub(crate) headers: Option<BTreeMap<String, String>>,
    /// How long its URL lives.
    pub(crate) url_life: Duration,
}

/// Permission to list what begins with a prefix.
#[derive(Clone, Debug)]
pub struct ListGrant {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    _made_here: (),
}

/// Permission to download one object.
#[derive(Clone, Debug)]
pub struct DownloadGrant {
    pub(crate) bucket: String,
    pub(crate) key: ObjectKey,
    pub(crate) expires_in: Duration,
    _made_here: (),
}

/// Permission to delete one object.
#[derive(Clone, Debug)]
pub struct DeleteGrant {
    pub(crate) bucket: String,
    pub(crate) key: ObjectKey,
    _made_here: (),
}

/// Where a principal may upload, and how much.
struct Place<'a> {
    destination: &'a Destination,
    max_size: u64,
    /// Whose limit that is.
    max_size_of: RuleOf,
    quota: Quota,
}

impl Place<'_> {
    /// Whether a file may have so many bytes.
    fn check_size(&self, size: u64) -> Result<(), ApiError> {
        if size <= self.max_size {
            return Ok(());
        }
        Err(ApiError::FileTooLarge {
            size,
            max: self.max_size,
            rule: self.max_size_of.clone(),
        })
    }
}

/// Permission to sign these parts of one upload.
#[derive(Debug)]
pub struct PartsGrant<'a> {
    session: &'a Session,
    store_upload_id: &'a str,
    parts: Vec<Part>,
    expires_in: Duration,
}

impl PartsGrant<'_> {
    /// The upload that the parts belong to.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// What the store calls the upload.
    pub fn store_upload_id(&self) -> &str {
        self.store_upload_id
    }

    /// The parts, in the order they were asked for.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How long their URLs live.
    pub fn expires_in(&self) -> Duration {
        self.expires_in
    }

    /// The same grant for a shorter time: what credentials that end sooner allow.
    #[must_use]
    pub fn at_most(self, life: Duration) -> Self {
        Self {
            expires_in: self.expires_in.min(life),
            ..self
        }
    }
}

impl Policy {
    /// Whether this principal may create this upload.
    ///
    /// # Errors
    /// What is refused, and why.
    pub fn admit_create(
        &self,
        principal: &Principal,
        request: CreateUpload,
        now: OffsetDateTime,
        random: UploadRandom,
    ) -> Result<CreateGrant, ApiError> {
        let CreateUpload {
            name,
            size,
            content_type,
            acl,
            metadata,
            destination,
            fingerprint,
            part_size,
            growing_parts,
        } = request;
        let place = self.place(principal, destination.as_deref())?;
        let max = place.max_size;
        let plan = if let Some(size) = size {
            place.check_size(size)?;
            let part_size = part_size.unwrap_or_else(|| plan::part_size_for(size, place.destination.max_parts));
            Plan::Sized(PartPlan::for_size(size, Some(part_size), max)?)
        } else {
            let part_size = part_size.unwrap_or(STREAM_PART_SIZE);
            // Any one part of this size has to be possible.
            let one = part_size.min(plan::MAX_PART_SIZE);
            PartPlan::for_size(one, Some(part_size), plan::MAX_PART_SIZE)?;
            Plan::Stream(if growing_parts && !self.equal_parts {
                PartSizes::Growing
            } else {
                PartSizes::Equal(part_size)
            })
        };
        if fingerprint
            .as_ref()
            .is_some_and(|text| text.len() > 128 || text.chars().any(char::is_control))
        {
            return Err(ApiError::InvalidField {
                field: "fingerprint",
                reason: "has more than 128 bytes, or control characters".into(),
            });
        }
        Self::admit(
            principal,
            place,
            Asked {
                name,
                plan,
                content_type,
                acl,
                metadata,
                fingerprint,
            },
            now,
            random,
        )
    }

    /// Whether this principal may upload this small file.
    ///
    /// # Errors
    /// What is refused, and why.
    pub fn admit_small(
        &self,
        principal: &Principal,
        file: BatchFile,
        now: OffsetDateTime,
        random: UploadRandom,
    ) -> Result<SmallGrant, ApiError> {
        let BatchFile {
            name,
            size,
            md5,
            content_type,
            acl,
            metadata,
            destination,
        } = file;
        if size > MAX_BATCH_FILE {
            let limit = MAX_BATCH_FILE;
            return Err(ApiError::NotSmall { size, limit });
        }
        let request = CreateUpload {
            name,
            size: Some(size),
            content_type,
            acl,
            metadata,
            destination,
            fingerprint: None,
            part_size: Some(MAX_BATCH_FILE),
            growing_parts: false,
        };
        let upload = self.admit_create(principal, request, now, random)?;
        // Who has the URL of a whole object may use it again, over what has come there since, and after the upload has ended and
        // no longer counts.
        let safe = self.single_put && upload.overwrite == Overwrite::Always && upload.quota == Quota::default();
        let headers = safe.then(|| headers_of(&upload, size, md5));
        let url_life = self
            .find_destination(Some(&upload.destination))
            .map_or(Duration::ZERO, |destination| destination.url_life);
        Ok(SmallGrant {
            url_life: within(url_life, upload.expires_at, now),
            headers: headers.filter(|headers| headers.values().all(|value| is_canonical(value))),
            upload,
            md5,
        })
    }

    /// Whether this principal may create this upload of the form protocol, and how long its URLs live.
    ///
    /// # Errors
    /// What is refused, and why.
    pub fn admit_form(
        &self,
        principal: &Principal,
        form: FormUpload,
        now: OffsetDateTime,
        random: UploadRandom,
    ) -> Result<(CreateGrant, Duration), ApiError> {
        let FormUpload {
            name,
            expires_in,
            content_type,
            acl,
            metadata,
            digests,
        } = form;
        let Ok(part_count @ 1..=PartNumber::MAX) = u16::try_from(digests.len()) else {
            return Err(ApiError::NoParts);
        };
        if !self.zero_byte_part && digests == [Md5Digest::EMPTY] {
            return Err(ApiError::EmptyPart);
        }
        if expires_in == 0 {
            return Err(ApiError::InvalidField {
                field: "expires",
                reason: "is 0 seconds; ask for at least 1".into(),
            });
        }
        let place = self.place(principal, None)?;
        let life = Duration::from_secs(expires_in)
            .min(place.destination.max_url_life)
            .min(MAX_URL_LIFE);
        let plan = Plan::Counted { part_count };
        let asked = Asked {
            name,
            plan,
            content_type,
            acl,
            metadata,
            fingerprint: None,
        };
        let grant = Self::admit(principal, place, asked, now, random)?;
        // An upload lives as long as the URLs that its client asked for, and neither outlives a ticket.
        let end = principal
            .ticket()
            .map_or(now + life, |terms| terms.expires_at.min(now + life));
        let expires_at = grant.expires_at.max(end);
        let life = within(life, expires_at, now);
        Ok((CreateGrant { expires_at, ..grant }, life))
    }

    /// Where this principal may upload, of the name that they give, and how much.
    fn place(&self, principal: &Principal, name: Option<&str>) -> Result<Place<'_>, ApiError> {
        let ticket = principal.ticket();
        let name = name.or(ticket.map(|terms| terms.destination.as_str()));
        let (destination, limits) = self.destination_for(principal, name, Right::Upload)?;
        let (max_size, max_size_of) = self.max_size_and_whose(principal, destination);
        Ok(Place {
            destination,
            max_size,
            max_size_of,
            quota: Quota {
                open_uploads: limits.open_uploads,
                bytes_per_day: limits.bytes_per_day,
                ticket_files: ticket.and_then(|terms| terms.max_files),
                ticket_bytes: ticket.and_then(|terms| terms.max_bytes),
            },
        })
    }

    fn admit(
        principal: &Principal,
        place: Place<'_>,
        asked: Asked,
        now: OffsetDateTime,
        random: UploadRandom,
    ) -> Result<CreateGrant, ApiError> {
        let Place {
            destination,
            max_size,
            quota,
            ..
        } = place;
        let Asked {
            name,
            plan,
            content_type,
            acl,
            metadata,
            fingerprint,
        } = asked;
        let name: UploadName = name.parse().map_err(ApiError::InvalidName)?;
        let key = destination
            .key_template
            .key(&name, principal, now, random.uuid)
            .map_err(ApiError::InvalidKey)?;
        if let Some(content_type) = &content_type {
            check_content_type(content_type)?;
        }
        destination.check_type(content_type.as_deref())?;
        if let Some(terms) = principal.ticket()
            && !type_among(&terms.content_types, content_type.as_deref())
        {
            return Err(ApiError::TypeNotGranted {
                given: content_type.as_deref().map(shortened),
                granted: terms.content_types.join(", "),
                rule: RuleOf::Ticket,
            });
        }
        if let Some(acl) = &acl
            && !destination.acls.contains(acl)
        {
            return Err(ApiError::AclNotGranted {
                acl: shortened(acl),
                granted: destination.acls.join(", "),
                destination: destination.name.clone(),
            });
        }
        check_metadata(&metadata, destination)?;
        if let Some(count) = plan.part_count().filter(|count| *count > destination.max_parts) {
            return Err(ApiError::TooManyPlanned {
                count,
                limit: destination.max_parts,
                destination: destination.name.clone(),
            });
        }
        let end = now + destination.upload_life;
        Ok(CreateGrant {
            owner: principal.name().to_owned(),
            grantee: principal.grantee().to_owned(),
            credential: principal.revocable(),
            destination: destination.name.clone(),
            bucket: destination.bucket.clone(),
            name,
            key,
            plan,
            content_disposition: destination.disposition(content_type.as_deref()),
            content_type,
            acl,
            metadata,
            fingerprint,
            quota,
            reserved: plan.size().unwrap_or(max_size),
            overwrite: destination.overwrites(principal.ticket().is_some()),
            write_token: format!("{:032x}", u128::from_be_bytes(random.token)),
            created_at: now,
            expires_at: principal.ticket().map_or(end, |terms| end.min(terms.expires_at)),
            _made_here: (),
        })
    }

    /// Whether these parts of an open upload may be signed, to live for the time that the protocol gives.
    ///
    /// # Errors
    /// The part that is refused, and why.
    pub fn admit_parts<'a>(
        &self,
        session: &'a Session,
        parts: Vec<Part>,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<PartsGrant<'a>, ApiError> {
        if session.put_md5.is_some() {
            return Err(ApiError::NoPartsInBatch);
        }
        let Some(store_upload_id) = session.store_upload_id.as_deref() else {
            return Err(ApiError::EmptyFile);
        };
        let mut granted = parts;
        for part in &mut granted {
            let number = part.number;
            match session.plan {
                Plan::Sized(plan) => {
                    let planned_size = plan.part_len(number).ok_or(ApiError::PartNotPlanned {
                        number,
                        planned: plan.part_count(),
                    })?;
                    if let Some(size) = part.size.filter(|size| *size != planned_size) {
                        return Err(ApiError::PartSize {
                            number,
                            size,
                            planned: planned_size,
                        });
                    }
                    part.size = Some(planned_size);
                }
                Plan::Stream(sizes) => {
                    // Any part may turn out to be the last, but what never ends is stopped where no object could be made of it.
                    let planned = sizes.part_size(number);
                    let (size, max) = (
                        sizes.start(number).saturating_add(part.size.unwrap_or(1)),
                        session.reserved,
                    );
                    if size > max {
                        return Err(PlanError::TooLarge { size, max }.into());
                    }
                    if let Some(size) = part.size.filter(|size| *size == 0 || *size > planned) {
                        return Err(ApiError::PartSize { number, size, planned });
                    }
                }
                Plan::Counted { part_count } => {
                    if number.get() > part_count {
                        return Err(ApiError::PartNotPlanned {
                            number,
                            planned: part_count,
                        });
                    }
                }
            }
        }
        let life = within(life.min(MAX_URL_LIFE), session.expires_at, now);
        Ok(PartsGrant {
            session,
            store_upload_id,
            parts: granted,
            expires_in: life,
        })
    }

    /// What this principal may see of the keys that begin with `prefix`; nothing where there is nothing to see.
    ///
    /// # Errors
    /// [`ApiError::NotGranted`], [`ApiError::NoSuchDestination`]
    pub fn admit_list(
        &self,
        principal: &Principal,
        destination: Option<&str>,
        prefix: &str,
    ) -> Result<Option<ListGrant>, ApiError> {
        let (destination, visible) = self.visible(principal, destination, Right::List)?;
        let prefix = if visible.starts_with(prefix) {
            visible
        } else if prefix.starts_with(&visible) {
            prefix.to_owned()
        } else {
            return Ok(None);
        };
        Ok(Some(ListGrant {
            bucket: destination.bucket.clone(),
            prefix,
            _made_here: (),
        }))
    }

    /// Whether this principal may download this object.
    ///
    /// # Errors
    /// As [`Policy::admit_list`]; and for an object that is not to be seen the same answer as for one that is not there.
    pub fn admit_download(
        &self,
        principal: &Principal,
        destination: Option<&str>,
        key: ObjectKey,
    ) -> Result<DownloadGrant, ApiError> {
        let destination = self.seen_at(principal, destination, Right::Download, &key)?;
        Ok(DownloadGrant {
            bucket: destination.bucket.clone(),
            key,
            expires_in: destination.url_life.min(MAX_URL_LIFE),
            _made_here: (),
        })
    }

    /// Whether this principal may delete this object.
    ///
    /// # Errors
    /// As [`Policy::admit_download`].
    pub fn admit_delete(
        &self,
        principal: &Principal,
        destination: Option<&str>,
        key: ObjectKey,
    ) -> Result<DeleteGrant, ApiError> {
        let destination = self.seen_at(principal, destination, Right::Delete, &key)?;
        Ok(DeleteGrant {
            bucket: destination.bucket.clone(),
            key,
            _made_here: (),
        })
    }

    /// The destination that is meant, if this principal may see this object there.
    fn seen_at(
        &self,
        principal: &Principal,
        name: Option<&str>,
        right: Right,
        key: &ObjectKey,
    ) -> Result<&Destination, ApiError> {
        let (destination, visible) = self.visible(principal, name, right)?;
        // A store that resolves paths would find another object there.
        let resolves = key.as_str().split('/').any(|segment| matches!(segment, "." | ".."));
        // No upload makes such a key, and stores refuse to be asked for it.
        let blank = key.as_str().trim().is_empty();
        if key.as_str().starts_with(&visible) && !resolves && !blank {
            Ok(destination)
        } else {
            Err(no_such_object(key))
        }
    }

    /// The destination that is meant, and what the keys that this principal may see there begin with.
    fn visible(
        &self,
        principal: &Principal,
        name: Option<&str>,
        right: Right,
    ) -> Result<(&Destination, String), ApiError> {
        let (destination, _) = self.destination_for(principal, name, right)?;
        let template = &destination.key_template;
        let prefix = if self.allows(principal, &destination.name, Right::Admin) {
            Some(template.fixed_prefix())
        } else {
            template.prefix(principal)
        };
        // Where principals are not kept apart by whole folders, each would see the others'.
        let prefix = prefix.ok_or_else(|| refused(principal, Some(&destination.name), right))?;
        Ok((destination, prefix))
    }

    /// What holds for every upload, as `/v1/me` tells it of this destination.
    pub fn limits(&self, destination: &Destination) -> Limits {
        Limits {
            max_parts_per_sign: MAX_PARTS_PER_SIGN,
            max_parts: destination.max_parts,
            max_batch: MAX_BATCH,
            max_batch_file: MAX_BATCH_FILE,
            min_part_size: plan::MIN_PART_SIZE,
            max_part_size: plan::MAX_PART_SIZE,
            growing_parts: !self.equal_parts,
            url_expires_in: destination.url_life.as_secs(),
            upload_expires_in: destination.upload_life.as_secs(),
        }
    }
}

/// The answer for an object that is not there, or not to be seen.
pub fn no_such_object(key: &ObjectKey) -> ApiError {
    ApiError::NoSuchObject {
        key: shortened(key.as_str()),
    }
}

/// How long a URL lives: not beyond its upload, which ends with its ticket, and never for less than the second that URLs count in.
fn within(life: Duration, upload_ends: OffsetDateTime, now: OffsetDateTime) -> Duration {
    let left = (upload_ends - now).try_into().unwrap_or_default();
    life.min(left).max(Duration::from_secs(1))
}

/// What bytes are of which nothing is known (RFC 2046 section 4.5.1).
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// What a small file is sent with, names in lower case: all that makes the object what was granted.
fn headers_of(grant: &CreateGrant, size: u64, md5: Md5Digest) -> BTreeMap<String, String> {
    // Always one: where none is signed, whoever has the URL could say any.
    let content_type = grant.content_type.clone().unwrap_or_else(|| UNKNOWN_TYPE.to_owned());
    let fixed = [
        ("content-length", Some(size.to_string())),
        ("content-md5", Some(md5.to_base64())),
        ("content-type", Some(content_type)),
        ("content-disposition", grant.content_disposition.map(str::to_owned)),
        ("x-amz-acl", grant.acl.clone()),
    ];
    let fixed = fixed
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let token = (WRITE_TOKEN.to_owned(), grant.write_token.clone());
    let metadata = grant.metadata.clone().into_iter().chain([token]);
    let metadata = metadata.map(|(name, value)| (format!("x-amz-meta-{name}"), value));
    fixed.chain(metadata).collect()
}
