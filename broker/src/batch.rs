//! Many small files at once: admitted in one transaction, each sent whole by one presigned PUT, and found again by listing.
//!
//! ```text
//! files ─▶ policy ─▶ ledger (one transaction) ─▶ a PUT each ─▶ … ─▶ list, compare ─▶ ledger (one transaction)
//!              └── where the store or the file does not allow a single PUT: an upload of one part each
//! ```
//!
//! Nothing is joined at the store, so there is nothing that could be done twice: completing needs no lease.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use shared::api::{SignedRequest, UploadState};
use shared::{ObjectKey, PartNumber, UploadId};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::admit::{admit, over, revoked};
use crate::app::Shared;
use crate::complete::{self, Completion};
use crate::error::ApiError;
use crate::ledger::{Admission, By, Digests, Plan, Session, StoredObject};
use crate::metrics::Signed;
use crate::policy::{SmallGrant, Touch};
use crate::principal::Caller;
use crate::put_whole;
use crate::sign::{Part, SignatureVersion, Target, Validity, put_url, v4};

/// Uploads of one part that are begun or completed at the store at once.
const AT_ONCE: usize = 32;

/// A file that may be sent.
pub struct Admitted {
    /// Its upload.
    pub id: UploadId,
    /// Where the object will be.
    pub key: ObjectKey,
    /// How to send it; nothing for an empty file that the broker puts itself.
    pub request: Option<SignedRequest>,
}

/// Admits files, each for itself: one that is refused does not stop the others.
///
/// # Errors
/// What concerns all of them: the ledger, the credentials. Nothing was recorded.
pub async fn create(
    broker: &Shared,
    grants: Vec<Result<SmallGrant, ApiError>>,
    by: &By,
) -> Result<Vec<Result<Admitted, ApiError>>, ApiError> {
    let by_put = |grant: &SmallGrant| grant.headers.is_some() && broker.signing.version == SignatureVersion::V4;
    let mut puts = Vec::new();
    let mut answers = Vec::with_capacity(grants.len());
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    for grant in grants {
        answers.push(match grant {
            Err(error) => Pending::Known(Err(error)),
            Ok(grant) if by_put(&grant) => {
                puts.push((broker.upload_id(), grant));
                Pending::Put
            }
            Ok(grant) => {
                let (broker, at_once, by) = (broker.clone(), at_once.clone(), by.clone());
                Pending::Task(actix_web::rt::spawn(async move {
                    let _permit = at_once.acquire().await;
                    in_one_part(&broker, grant, by).await
                }))
            }
        });
    }
    let (puts, mut refused) = recorded(broker, puts, by).await?;
    let mut puts = sign(broker, puts).await?.into_iter();
    let mut admitted = Vec::with_capacity(answers.len());
    for answer in answers {
        admitted.push(match answer {
            Pending::Known(answer) => answer,
            Pending::Put => match refused.pop_front().flatten() {
                Some(error) => Err(error),
                None => puts.next().ok_or(ApiError::Interrupted),
            },
            Pending::Task(task) => task.await.unwrap_or(Err(ApiError::Interrupted)),
        });
    }
    Ok(admitted)
}

/// Records them: those that their limits allow, and for each of all whether that is why it is not among these.
async fn recorded(
    broker: &Shared,
    puts: Vec<(UploadId, SmallGrant)>,
    by: &By,
) -> Result<(Vec<(UploadId, SmallGrant)>, VecDeque<Option<ApiError>>), ApiError> {
    let answers = broker.ledger.admit_puts(&puts, by).await?;
    let (mut admitted, mut refused) = (Vec::with_capacity(puts.len()), VecDeque::with_capacity(puts.len()));
    for (put, answer) in puts.into_iter().zip(answers) {
        refused.push_back(match answer {
            Admission::Recorded(_) => {
                admitted.push(put);
                None
            }
            Admission::Exceeded(exceeded) => Some(over(&put.1.upload, exceeded)),
            Admission::Revoked => Some(revoked()),
            Admission::OpenAlready => Some(ApiError::UploadBusy),
        });
    }
    Ok((admitted, refused))
}

/// An answer, or where it will come from.
enum Pending<T> {
    Known(Result<T, ApiError>),
    /// The next of those that are handled together.
    Put,
    Task(JoinHandle<Result<T, ApiError>>),
}

async fn sign(broker: &Shared, puts: Vec<(UploadId, SmallGrant)>) -> Result<Vec<Admitted>, ApiError> {
    let signing = &broker.signing;
    let now = broker.clock.now();
    let (credentials, left) = signing
        .credentials
        .current(now.into())
        .await
        .map_err(ApiError::NoCredentials)?;
    let signed_at = broker.clock.store_now();
    let key = v4::SigningKey::new(&credentials, &signing.region, signed_at);
    broker.metrics.signed(Signed::Object, puts.len());
    let admitted = puts.into_iter().map(|(id, grant)| {
        let SmallGrant {
            upload,
            headers,
            url_life,
            ..
        } = grant;
        let expires_in = left.map_or(url_life, |left| left.min(url_life));
        let validity = Validity { signed_at, expires_in };
        let mut headers = headers.unwrap_or_default();
        let target = Target::new(&signing.endpoint, signing.addressing, &upload.bucket, &upload.key);
        let url = put_url(&key, &target, &headers, broker.profile.barred.object, validity);
        // Every client sets it by itself, and a web page may not.
        headers.remove("content-length");
        Admitted {
            id,
            key: upload.key,
            request: Some(SignedRequest {
                method: "PUT".to_owned(),
                url,
                headers,
                expires_at: now + expires_in,
                expires_in: expires_in.as_secs(),
            }),
        }
    });
    Ok(admitted.collect())
}

/// Begins an upload of one part, and signs that.
async fn in_one_part(broker: &Shared, grant: SmallGrant, by: By) -> Result<Admitted, ApiError> {
    let declared: Digests = std::iter::once((PartNumber::FIRST, grant.md5)).collect();
    let empty = matches!(grant.upload.plan, Plan::Sized(plan) if plan.part_count() == 0);
    let md5 = grant.md5;
    let session = admit(broker.clone(), grant.upload, declared, by)
        .await?
        .ok_or(ApiError::UploadBusy)?;
    let request = if empty {
        None
    } else {
        let part = Part {
            number: PartNumber::FIRST,
            md5: Some(md5),
            size: None,
        };
        let now = broker.clock.now();
        let parts = broker
            .policy
            .admit_parts(&session, vec![part], broker.policy.url_life(&session), now)?;
        let (mut signer, parts) = broker.signer(parts).await?;
        let url = signer.urls(parts.parts()).pop().ok_or(ApiError::Interrupted)?;
        Some(SignedRequest {
            method: "PUT".to_owned(),
            url,
            headers: part.headers(),
            expires_at: now + parts.expires_in(),
            expires_in: parts.expires_in().as_secs(),
        })
    };
    Ok(Admitted {
        id: session.id,
        key: session.key,
        request,
    })
}

/// Completes uploads, each for itself, in the order asked.
///
/// # Errors
/// What concerns all of them: the ledger, or the store while it lists.
pub async fn complete(
    broker: &Shared,
    caller: &Caller,
    ids: &[UploadId],
) -> Result<Vec<Result<(Session, StoredObject), ApiError>>, ApiError> {
    let now = broker.clock.now();
    let mut sessions: HashMap<_, _> = broker
        .ledger
        .find_all(ids)
        .await?
        .into_iter()
        .filter(|session| {
            let touched = broker.policy.admit_touch(&caller.principal, session, Touch::GoOn);
            touched.is_ok() && session.state_at(now) != UploadState::Expired
        })
        .map(|session| (session.id.clone(), session))
        .collect();
    let mut puts = Vec::new();
    let mut answers = Vec::with_capacity(ids.len());
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    for id in ids {
        // Named twice, it is answered once.
        let Some(session) = sessions.remove(id) else {
            answers.push(Pending::Known(Err(ApiError::NoSuchUpload)));
            continue;
        };
        answers.push(match (&session.object, session.put_md5) {
            (Some(object), _) => {
                let object = object.clone();
                Pending::Known(Ok((session, object)))
            }
            (None, Some(_)) if session.state == UploadState::Open => {
                puts.push(session);
                Pending::Put
            }
            (None, Some(_)) => Pending::Known(Err(ApiError::UploadEnded(session.state))),
            (None, None) => {
                let (broker, at_once, by) = (broker.clone(), at_once.clone(), caller.by());
                Pending::Task(actix_web::rt::spawn(async move {
                    let _permit = at_once.acquire().await;
                    match complete::complete(broker, session.clone(), None, by).await? {
                        Completion::Done(object) => Ok((session, object)),
                        Completion::Busy => Err(ApiError::UploadBusy),
                    }
                }))
            }
        });
    }
    let mut puts = put_whole::find_objects(broker, puts, &caller.by()).await?.into_iter();
    let mut completed = Vec::with_capacity(answers.len());
    for answer in answers {
        completed.push(match answer {
            Pending::Known(answer) => answer,
            Pending::Put => puts.next().unwrap_or(Err(ApiError::Interrupted)),
            Pending::Task(task) => task.await.unwrap_or(Err(ApiError::Interrupted)),
        });
    }
    Ok(completed)
}
