//! From a request to an answer: counts and faults, the filter, the protocol layer, and what every answer carries.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use s3s::Body;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use time::OffsetDateTime;
use tracing::instrument::WithSubscriber as _;
use tracing::{Dispatch, debug, error};

use crate::api::{Access, Api, valid_bucket_name};
use crate::body::Home;
use crate::cors;
use crate::disk::{CorsRule, Disk};
use crate::document::{self, Document};
use crate::fault::{Fault, Faults};
use crate::filter::{Expected, Refusal, is_post_form, refuse};
use crate::form::Forms;
use crate::keys::Keys;
use crate::references;
use crate::sigv2::bucket_of_host;
use crate::tamper;
use crate::words;

/// All that stands between a connection and the disk.
pub(crate) struct Front {
    service: S3Service,
    forms: Forms,
    expected: Expected,
    disk: Arc<Disk>,
    faults: Option<Arc<Faults>>,
    requests: AtomicU64,
}

/// The connection ends here, without an answer: a fault that was asked for.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut by an injected fault")
    }
}

impl std::error::Error for Cut {}

impl Front {
    /// Serves `disk` to the holders of `keys`.
    pub(crate) fn new(disk: Arc<Disk>, keys: Keys, region: String, faults: Option<Arc<Faults>>) -> Self {
        let mut config = S3Config::default();
        config.xml_max_body_size = document::MAX_SIZE;
        config.post_object_max_file_size = 0; // Forms do not get this far.
        let keys = Arc::new(keys);
        let access = Access(Arc::clone(&keys));
        let api = Api {
            disk: Arc::clone(&disk),
            region: region.clone(),
        };
        let mut builder = S3ServiceBuilder::new(api.clone());
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(access.clone());
        builder.set_access(access.clone());
        builder.set_host(Hosts);
        builder.set_validation(Names);
        let mut seed = [0; 8];
        // Ids only have to differ within the log of one run; without random bytes they begin at 0.
        let _ = getrandom::fill(&mut seed);
        Self {
            service: builder.build(),
            forms: Forms::new(api, access, region.clone()),
            expected: Expected { keys, region },
            disk,
            faults,
            requests: AtomicU64::new(u64::from_le_bytes(seed)),
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
        let began = Instant::now();
        let id = format!("{:016X}", self.requests.fetch_add(1, Ordering::Relaxed));
        let (mut head, body) = request.into_parts();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let of_attributes = head
            .uri
            .query()
            .is_some_and(|query| query.split('&').any(is_attributes));
        let home = Home::default();
        let strike = self.faults.as_ref().and_then(|faults| faults.arrival(&head));
        let body = home.lend(body, matches!(strike, Some(Fault::FlipOneBit)));
        let expects = head.headers.contains_key(header::EXPECT);
        let empty = head
            .headers
            .get(header::CONTENT_LENGTH)
            .is_none_or(|length| length == "0");

        let page = self
            .faults
            .as_ref()
            .map_or(0, |faults| faults.page.load(Ordering::Relaxed));
        let asked = strike.is_some() || page > 0;
        let asked = asked.then(|| head.clone());
        let mut answer = match self.before(strike.as_ref(), &head).await? {
            Some(answer) => {
                drop(body);
                answer
            }
            None if method == Method::OPTIONS => {
                drop(body);
                preflighted(&self.cors_rules(&head), &head)
            }
            None => {
                let shown = if head.headers.contains_key(header::ORIGIN) {
                    cors::of_request(&self.cors_rules(&head), method.as_str(), &head.headers)
                } else {
                    HeaderMap::new()
                };
                let mut answer = match self.expected.check(&mut head, OffsetDateTime::now_utc()) {
                    Err(refusal) => {
                        drop(body);
                        refused(&refusal)
                    }
                    Ok(()) if is_post_form(&head) => self.forms.take(&head, body, OffsetDateTime::now_utc()).await,
                    Ok(()) if document::is_too_large(&head) => {
                        drop(body);
                        refused(&TOO_LARGE_DOCUMENT)
                    }
                    Ok(()) if Document::is_in(&head) => {
                        let document = Document::default();
                        head.extensions.insert(document.clone());
                        let body = Body::http_body(document.of(body));
                        self.call(Request::from_parts(head, body)).await
                    }
                    Ok(()) => self.call(Request::from_parts(head, Body::http_body(body))).await,
                };
                // The protocol layer takes a document that it cannot read to its end for a failure of ours.
                if answer.status() == StatusCode::INTERNAL_SERVER_ERROR && home.was_cut() {
                    answer = refused(&INCOMPLETE_BODY);
                }
                answer.headers_mut().extend(shown);
                answer
            }
        };
        self.after(strike.as_ref(), &path).await?;
        if let Some(head) = asked {
            if page > 0 {
                answer = tamper::first_page(page, answer);
            }
            answer = tamper::tampered(strike.as_ref(), &head, answer);
        }

        let failed = !answer.status().is_success() && !answer.status().is_redirection();
        if failed && !expects {
            home.drain().await;
        }
        // A client that waits for "100 Continue" and gets an answer instead may go on to send its body or not; after an
        // empty one, which hyper answers without the 100, botocore takes the next answer for the 100. Begin anew.
        if expects && (failed || empty) {
            answer
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if of_attributes {
            unquote_etag(&mut answer);
        }
        words::tell(&mut answer);
        references::write(&mut answer);
        finish(&mut answer, &method, &path, &id);
        debug!(
            request.id = id,
            %method,
            path,
            status = answer.status().as_u16(),
            elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
        Ok(answer)
    }

    /// What a fault does before the request has any effect; an answer, if it is to have none.
    async fn before(&self, strike: Option<&Fault>, head: &Parts) -> Result<Option<Response<Body>>, Cut> {
        match strike {
            Some(Fault::CutConnection) => Err(Cut),
            Some(Fault::SlowDown { retry_after }) => {
                let mut answer = refused(&SLOW_DOWN);
                if let Some(seconds) = retry_after.map(|after| after.as_secs()) {
                    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                }
                Ok(Some(answer))
            }
            Some(Fault::InternalError) => Ok(Some(refused(&INTERNAL_ERROR))),
            Some(Fault::InvalidPart) => Ok(Some(refused(&INVALID_PART))),
            Some(Fault::AccessDenied) => Ok(Some(refused(&ACCESS_DENIED))),
            Some(Fault::Garbled {
                answer: how,
                done: false,
            }) if head.method != Method::HEAD => Ok(Some(tamper::garbled(*how, failed_with_200()))),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(*time).await;
                Ok(None)
            }
            Some(Fault::Forget) => {
                Faults::forget(Arc::clone(&self.disk), head.uri.path().to_owned()).await;
                Ok(None)
            }
            Some(Fault::Hold { done: false }) => self.hold().await.map(|()| None),
            Some(
                Fault::FlipOneBit
                | Fault::CutAfterEffect
                | Fault::Garbled { .. }
                | Fault::OtherEtags
                | Fault::StaleList
                | Fault::RepeatMarker
                | Fault::Hold { done: true },
            )
            | None => Ok(None),
        }
    }

    /// What a fault does once the request has had its effect.
    async fn after(&self, strike: Option<&Fault>, path: &str) -> Result<(), Cut> {
        match strike {
            Some(Fault::CutAfterEffect) => Err(Cut),
            // For a create the upload to forget is there only now.
            Some(Fault::Forget) => {
                Faults::forget(Arc::clone(&self.disk), path.to_owned()).await;
                Ok(())
            }
            Some(Fault::Hold { done: true }) => self.hold().await,
            Some(_) | None => Ok(()),
        }
    }

    async fn hold(&self) -> Result<(), Cut> {
        match &self.faults {
            Some(faults) if !faults.hold().await => Err(Cut),
            Some(_) | None => Ok(()),
        }
    }

    /// The rules of the bucket that the request is for.
    fn cors_rules(&self, head: &Parts) -> Vec<CorsRule> {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let in_path = head.uri.path().trim_start_matches('/').split('/').next();
        let bucket = host.and_then(bucket_of_host).or(in_path).unwrap_or_default();
        let bucket = self.disk.bucket(bucket);
        bucket.map(|bucket| bucket.settings().cors.clone()).unwrap_or_default()
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        // The protocol layer logs whole requests and signatures: it gets no subscriber. What the disk has to say is
        // logged on its own threads.
        match self.service.call(request).with_subscriber(Dispatch::none()).await {
            Ok(answer) => answer,
            Err(failure) => {
                let failure: s3s::StdError = failure.into();
                error!(
                    error = &*failure as &dyn std::error::Error,
                    "the protocol layer could not answer"
                );
                refused(&INTERNAL_ERROR)
            }
        }
    }
}

pub(crate) const INTERNAL_ERROR: Refusal = refuse(
    StatusCode::INTERNAL_SERVER_ERROR,
    "InternalError",
    "We encountered an internal error. Please try again.",
);
const TOO_LARGE_DOCUMENT: Refusal = refuse(
    StatusCode::BAD_REQUEST,
    "MaxMessageLengthExceeded",
    "Your request was too big.",
);
const INCOMPLETE_BODY: Refusal = refuse(
    StatusCode::BAD_REQUEST,
    "IncompleteBody",
    "You did not provide the number of bytes specified by the Content-Length HTTP header",
);
const INVALID_PART: Refusal = refuse(
    StatusCode::BAD_REQUEST,
    "InvalidPart",
    "One or more of the specified parts could not be found.",
);
const ACCESS_DENIED: Refusal = refuse(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied.");
const SLOW_DOWN: Refusal = refuse(
    StatusCode::SERVICE_UNAVAILABLE,
    "SlowDown",
    "Please reduce your request rate.",
);

/// An error in an answer of success, as S3 gives it where it has begun to answer before it knows.
pub(crate) fn failed_with_200() -> Response<Body> {
    let mut answer = refused(&INTERNAL_ERROR);
    *answer.status_mut() = StatusCode::OK;
    answer
}

fn preflighted(rules: &[CorsRule], head: &Parts) -> Response<Body> {
    match cors::preflight(rules, &head.headers) {
        Ok(headers) => {
            let mut answer = Response::new(Body::empty());
            *answer.headers_mut() = headers;
            answer
        }
        Err(refusal) => refused(&refusal),
    }
}

pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    let Refusal { code, message, .. } = refusal;
    let region = refusal.region.as_ref();
    let region = region
        .map(|region| format!("<Region>{region}</Region>"))
        .unwrap_or_default();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{region}</Error>"
    );
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = refusal.status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

fn is_attributes(parameter: &str) -> bool {
    parameter == "attributes" || parameter.starts_with("attributes=")
}

/// Of all answers, GetObjectAttributes alone tells the ETag without quotes (S3 API, GetObjectAttributes, "Examples").
fn unquote_etag(answer: &mut Response<Body>) {
    let Some(text) = answer.body().bytes().filter(|_| answer.status().is_success()) else {
        return;
    };
    let text = String::from_utf8_lossy(&text);
    let bare = ["\"", "&quot;"].into_iter().fold(text.into_owned(), |text, quote| {
        text.replace(&format!("<ETag>{quote}"), "<ETag>")
            .replace(&format!("{quote}</ETag>"), "</ETag>")
    });
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    *answer.body_mut() = Body::from(bare);
}

/// Gives the answer its id, and an error also where it happened (S3 API Reference, "REST error responses").
fn finish(answer: &mut Response<Body>, method: &Method, path: &str, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        answer.headers_mut().insert("x-amz-request-id", value);
    }
    // A part of an object is a part also where its bytes are not asked for.
    if answer.status() == StatusCode::OK && answer.headers().contains_key(header::CONTENT_RANGE) {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if answer.status() == StatusCode::NOT_MODIFIED || method == Method::HEAD {
        // Neither has a body (RFC 9110 sections 9.3.2 and 15.4.5), nor may it tell the length of an error's.
        if !answer.status().is_success() {
            *answer.body_mut() = Body::empty();
            answer.headers_mut().remove(header::CONTENT_TYPE);
        }
        return;
    }
    let Some(text) = answer.body().bytes().filter(|text| text.ends_with(b"</Error>")) else {
        return;
    };
    let mut told = Vec::with_capacity(text.len() + path.len() + 96);
    told.extend_from_slice(text.strip_suffix(b"</Error>").unwrap_or_default());
    // The path is percent-encoded, so of XML's own characters it can only hold `&` and `'`.
    let resource = path.replace('&', "&amp;");
    told.extend_from_slice(format!("<Resource>{resource}</Resource><RequestId>{id}</RequestId></Error>").as_bytes());
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    *answer.body_mut() = Body::from(told);
}

/// `BUCKET.localhost` is a bucket's own address; every other name is the store's.
struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> s3s::S3Result<VirtualHost<'a>> {
        let found = VirtualHost::new(host);
        Ok(match bucket_of_host(host) {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

/// Names that a bucket may have.
struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        valid_bucket_name(name)
    }
}
