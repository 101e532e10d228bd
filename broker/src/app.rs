//! What every request shares, the route table, and the answers to requests that are malformed.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse};
use shared::api::Problem;
use tracing::Instrument;

use crate::auth::identify::Principals;
use crate::auth::identify::is_this_machine;
use crate::auth::path_ticket;
use crate::edge::address::TrustedProxies;
use crate::edge::connections::Connection;
use crate::edge::rates::Rates;
use crate::error::ApiError;
use crate::handlers;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, Signed};
use crate::policy::{DownloadGrant, PartsGrant, Policy, UploadRandom};
use crate::principal::Principal;
use crate::random::Random;
use crate::s3::{Clock, CredentialSource, Profile, StoreClient};
use crate::sign::{self, Addressing, Endpoint, PartSigner, SignatureVersion, Target, Validity};
use crate::webhook::Webhook;

/// What every request shares.
pub struct Broker {
    /// Who is known.
    pub principals: Principals,
    /// What they may do.
    pub policy: Policy,
    /// What was admitted.
    pub ledger: Ledger,
    /// The store, by the broker's own key.
    pub store: StoreClient,
    /// What kind of store it is.
    pub profile: Profile,
    /// What is counted.
    pub metrics: Metrics,
    /// How many requests there may be.
    pub rates: Rates,
    /// Whose word is believed on where a request comes from.
    pub proxies: TrustedProxies,
    /// Whether it is about to stop.
    pub stopping: AtomicBool,
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub random: Random,
    /// How URLs are made.
    pub signing: Signing,
    /// Who is told how uploads ended.
    pub webhook: Option<Webhook>,
}

/// How URLs are made.
pub struct Signing {
    /// The key for parts, which need not be good for anything else.
    pub credentials: CredentialSource,
    /// The key for downloads: the broker's own.
    pub download_credentials: CredentialSource,
    /// The version.
    pub version: SignatureVersion,
    /// The region of the credential scope.
    pub region: String,
    /// As clients reach the store.
    pub endpoint: Endpoint,
    /// Where the bucket's name stands.
    pub addressing: Addressing,
}

impl Broker {
    /// A signer for the granted parts, and the grant as short-lived as the credentials make it.
    ///
    /// # Errors
    /// There are no credentials.
    pub async fn signer<'a>(&self, grant: PartsGrant<'a>) -> Result<(PartSigner, PartsGrant<'a>), ApiError> {
        let now = self.clock.now();
        let (credentials, left) = self
            .signing
            .credentials
            .current(now.into())
            .await
            .map_err(ApiError::NoCredentials)?;
        let grant = match left {
            Some(left) => grant.at_most(left),
            None => grant,
        };
        self.metrics.signed(Signed::Part, grant.parts().len());
        let session = grant.session();
        let target = Target::new(
            &self.signing.endpoint,
            self.signing.addressing,
            &session.bucket,
            &session.key,
        );
        let Signing { version, region, .. } = &self.signing;
        Ok((
            PartSigner::new(
                *version,
                &target,
                region,
                &credentials,
                &grant,
                self.profile.barred.part,
                self.clock.store_now(),
            ),
            grant,
        ))
    }

    /// The URL of a granted download, and how long it lives.
    ///
    /// # Errors
    /// There are no credentials.
    pub async fn download_url(&self, grant: &DownloadGrant) -> Result<(String, Duration), ApiError> {
        let Signing {
            download_credentials,
            version,
            region,
            endpoint,
            addressing,
            ..
        } = &self.signing;
        let (credentials, left) = download_credentials
            .current(self.clock.now().into())
            .await
            .map_err(ApiError::NoCredentials)?;
        let validity = Validity {
            signed_at: self.clock.store_now(),
            expires_in: left.map_or(grant.expires_in, |left| left.min(grant.expires_in)),
        };
        let target = Target::new(endpoint, *addressing, &grant.bucket, &grant.key);
        self.metrics.signed(Signed::Download, 1);
        let url = sign::download_url(*version, &target, region, &credentials, validity);
        Ok((url, validity.expires_in))
    }

    /// The unsigned URL of an object.
    pub fn location(&self, bucket: &str, key: &shared::ObjectKey) -> String {
        Target::new(&self.signing.endpoint, self.signing.addressing, bucket, key).url()
    }

    /// Randomness for one upload.
    pub fn upload_random(&self) -> UploadRandom {
        UploadRandom {
            uuid: self.random.bytes(),
            token: self.random.bytes(),
        }
    }

    /// A new upload id.
    pub fn upload_id(&self) -> shared::UploadId {
        shared::UploadId::from_random(self.random.bytes())
    }

    /// A name that nobody else has.
    pub fn random_name(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.random.bytes()))
    }
}

/// Does `work` to its end even if the caller goes away meanwhile: what is done at the store has to reach the ledger, and the
/// other way round.
///
/// # Errors
/// Those of `work`; or it broke.
pub async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work.in_current_span())
        .await
        .map_err(|_| ApiError::Interrupted)?
}

/// The route table.
pub fn routes(config: &mut ServiceConfig) {
    config
        // An id that is not even text is as unknown as any other.
        .app_data(web::PathConfig::default().error_handler(|_, _| ApiError::NoSuchUpload.into()))
        .service(resource("/presign", "POST").route(web::post().to(handlers::form::presign)))
        .service(resource("/complete", "POST").route(web::post().to(handlers::form::complete)))
        .service(resource("/abort", "POST").route(web::post().to(handlers::form::abort)))
        .service(resource("/v1/me", "GET").route(web::get().to(handlers::me::me)))
        .service(
            resource("/v1/uploads", "GET, POST")
                .route(web::get().to(handlers::uploads::uploads))
                .route(web::post().to(handlers::create::create)),
        )
        .service(
            resource("/v1/uploads/{id}", "GET, DELETE")
                .route(web::get().to(handlers::status::status))
                .route(web::delete().to(handlers::abort::abort)),
        )
        .service(resource("/v1/uploads/{id}/events", "GET").route(web::get().to(handlers::events::events)))
        .service(resource("/v1/uploads/{id}/parts", "POST").route(web::post().to(handlers::sign_parts::sign_parts)))
        .service(resource("/v1/uploads/{id}/complete", "POST").route(web::post().to(handlers::complete::complete)))
        .service(resource("/v1/batches", "POST").route(web::post().to(handlers::batches::create)))
        .service(resource("/v1/batches/complete", "POST").route(web::post().to(handlers::batches::complete)))
        .service(
            resource("/v1/objects", "GET, DELETE")
                .route(web::get().to(handlers::objects::objects))
                .route(web::delete().to(handlers::delete::delete)),
        )
        .service(
            resource("/v1/tickets", "GET, POST")
                .route(web::get().to(handlers::tickets::list))
                .route(web::post().to(handlers::tickets::create)),
        )
        .service(resource("/v1/tickets/{id}", "DELETE").route(web::delete().to(handlers::tickets::revoke)))
        .service(resource("/v1/downloads", "POST").route(web::post().to(handlers::download::download)))
        .service(resource("/healthz", "GET").route(web::get().to(handlers::health::healthz)))
        .service(resource("/readyz", "GET").route(web::get().to(handlers::health::readyz)))
        .service(resource("/openapi.json", "GET").route(web::get().to(handlers::openapi::openapi)))
        .default_service(web::to(no_such_route));
}

/// A path that answers methods it does not take with a problem.
fn resource(path: &str, allowed: &'static str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(move |request: HttpRequest| async move {
        let method = request.method().as_str().chars().take(16).collect();
        Err::<HttpResponse, _>(ApiError::MethodNotAllowed { method, allowed })
    }))
}

async fn no_such_route() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NoSuchRoute)
}

/// The route table of the operator's address.
pub fn admin_routes(config: &mut ServiceConfig) {
    config
        .service(resource("/metrics", "GET").route(web::get().to(handlers::health::metrics)))
        .service(resource("/healthz", "GET").route(web::get().to(handlers::health::healthz)))
        .service(resource("/readyz", "GET").route(web::get().to(handlers::health::readyz)))
        .default_service(web::to(no_such_route));
}

/// Where the operator's address is this machine's alone, has no page elsewhere ask there by a name that leads to it.
///
/// # Errors
/// None of its own.
pub async fn this_machine_only(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    if request.app_config().local_addr().ip().is_loopback() && !is_this_machine(request.request()) {
        return Ok(request.error_response(ApiError::CrossOrigin).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// How long somebody who sends too many requests waits to be told so.
const REFUSAL_PAUSE: Duration = Duration::from_millis(250);
/// What the log calls the lines of which there is one for every request: `broker::access=warn` leaves them out.
const ACCESS: &str = "broker::access";

/// The id that a request was given, among its extensions.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Gives each request an id, and each failure its problem, which is logged here and nowhere else.
///
/// # Errors
/// None of its own.
pub async fn tell(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let began = Instant::now();
    let mut busy = request.conn_data::<Arc<Connection>>().map(Connection::busy);
    path_ticket::take(&mut request);
    let request_id = format!("{:032x}", u128::from_be_bytes(Random::default().bytes()));
    request.extensions_mut().insert(RequestId(request_id.clone()));
    // The path may hold an upload id, which is worthless to anyone but its owner; queries are never logged.
    let span = tracing::info_span!("request", id = %request_id, method = %request.method(), path = %without_tokens(request.path()));
    // Clients of the form protocol look for `status_code` in whatever these answer.
    let form = matches!(request.path(), "/complete" | "/abort");
    async move {
        let response = next.call(request).await?;
        let answer = response
            .response()
            .error()
            .map(|error| match error.as_error::<ApiError>() {
                Some(failure) => problem(response.request(), failure, &request_id, form),
                // What the HTTP layer itself refused.
                None => problem(
                    response.request(),
                    &ApiError::BadRequest(error.as_response_error().status_code()),
                    &request_id,
                    form,
                ),
            });
        let mut response = match answer {
            Some(answer) => response.into_response(answer).map_into_right_body(),
            None => response.map_into_left_body(),
        };
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response
                .headers_mut()
                .insert(HeaderName::from_static("x-request-id"), value);
        }
        // Answers hold URLs that are secrets, and tickets that are shown once.
        if !response.headers().contains_key(header::CACHE_CONTROL) {
            let none = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, none);
        }
        note_answer(response.request(), response.status(), began.elapsed());
        if response.request().headers().contains_key(header::TRANSFER_ENCODING) {
            response
                .response_mut()
                .head_mut()
                .set_connection_type(ConnectionType::Close);
            if let Some(busy) = &busy {
                busy.answers_last();
            }
        }
        if let (Some(busy), BodySize::Stream) = (&mut busy, response.response().body().size()) {
            busy.answers_at_length();
        }
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            // Whoever sends again as soon as there is an answer is held to a few requests a second on each connection, which
            // costs nothing: refusing at once takes nearly as long as answering. After the note, as it is no slowness.
            tokio::time::sleep(REFUSAL_PAUSE).await;
        }
        Ok(response)
    }
    .instrument(span)
    .await
}

/// A path without the token or ticket that somebody has put where none belongs.
fn without_tokens(path: &str) -> Cow<'_, str> {
    let found = ["ubt_", "ubk_"].iter().filter_map(|prefix| path.find(prefix)).min();
    match found.and_then(|start| path.get(..start)) {
        Some(before) => format!("{before}…").into(),
        None => path.into(),
    }
}

/// One line in the log for every request, and its place in the series.
fn note_answer(request: &HttpRequest, status: StatusCode, time: Duration) {
    let route = request.match_pattern();
    let (status, milliseconds) = (status.as_u16(), (time.as_secs_f64() * 1e4).round() / 10.0);
    let extensions = request.extensions();
    let principal = extensions.get::<Principal>().map(Principal::name);
    let told = route.as_deref();
    match told {
        // Asked every few seconds by machines.
        Some("/healthz" | "/readyz" | "/metrics") if status < 400 => {
            tracing::debug!(target: ACCESS, route = told, status, milliseconds, principal, "answered");
        }
        _ => tracing::info!(target: ACCESS, route = told, status, milliseconds, principal, "answered"),
    }
    if let Some(broker) = request.app_data::<Shared>() {
        broker.metrics.request(route, request.method().as_str(), status, time);
    }
}

fn problem(request: &HttpRequest, failure: &ApiError, request_id: &str, form: bool) -> HttpResponse {
    log_failure(failure);
    if let Some(broker) = request.app_data::<Shared>() {
        broker.metrics.problem(failure);
    }
    let mut answer = HttpResponse::build(failure.status());
    answer.content_type("application/problem+json");
    if let Some(seconds) = failure.retry_after() {
        answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    match failure {
        ApiError::Unauthenticated { .. } | ApiError::InvalidCredential(_) => {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        ApiError::MethodNotAllowed { allowed, .. } => _ = answer.insert_header((header::ALLOW, *allowed)),
        _ => {}
    }
    let status_code = form.then_some(failure.status().as_u16());
    let problem = Problem {
        status_code,
        ..failure.problem(request_id)
    };
    answer.body(serde_json::to_vec(&problem).unwrap_or_default())
}

fn log_failure(failure: &ApiError) {
    let cause = std::error::Error::source(failure).map(ToString::to_string);
    let code = failure.code();
    if failure.status().is_server_error() {
        tracing::error!(code, cause, "request failed: {failure}");
    } else {
        tracing::info!(code, cause, "request refused: {failure}");
    }
}

/// The shared state as handlers take it.
pub type Shared = Data<Broker>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t17_a_logged_path_ends_before_the_first_token_in_it() {
        for (path, told) in [
            ("/v1/uploads/up_1", "/v1/uploads/up_1"),
            ("//t/ubk_abc/v1/me", "//t/…"),
            ("/v1/uploads/ubt_abc", "/v1/uploads/…"),
            ("/x/ubt_abc/ubk_def", "/x/…"),
            ("ubk_abc", "…"),
        ] {
            assert_eq!(without_tokens(path), told);
        }
    }
}
