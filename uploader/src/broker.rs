//! The broker, one method a route of `/v1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::UploadId;
use shared::api::{
    BatchFile, CompleteBatch, CompleteUpload, CompletedBatch, CompletedObject, Completing, CreateBatch, CreateDownload,
    CreateUpload, CreatedBatch, Download, ListObjects, ListUploads, Me, ObjectList, OpenUploads, PartToSign, Problem,
    SignParts, SignedParts, UploadCreated, UploadStatus,
};

use crate::budget::{Budget, Cost};
use crate::error::{TransportError, UploadError};
use crate::options::Settings;
use crate::progress::{Progress, Silent};
use crate::refused::{self, COMPLETE, HAVE_SIGNED};
use crate::retry::{self, RetryPolicy};

/// Longest answer that is read: the status of 10,000 parts is about a tenth of it.
const LONGEST_ANSWER: usize = 16 << 20;
/// How long one request may take; a store may need minutes to join parts, and the broker answers before that.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
/// How long to wait in all for a completion that another request is at.
const COMPLETING_TIMEOUT: Duration = Duration::from_mins(30);

/// Speaks the JSON protocol with one broker, trying again what may pass by itself.
#[derive(Debug)]
pub(crate) struct Broker {
    client: Client,
    settings: Settings,
    budget: Arc<Budget>,
    /// Whether it has ever answered.
    reached: AtomicBool,
}

/// An answer read to its end.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

/// Why there is no usable answer.
struct Trouble {
    what: String,
    retry_after: Option<Duration>,
    cause: Option<TransportError>,
    cost: Cost,
    problem: Option<Box<Problem>>,
}

impl Trouble {
    /// Whether waiting may mend it: not a certificate that is not trusted, nor a limit of the day, which nobody sits out.
    fn passes(&self) -> bool {
        let mistake = self.cause.as_ref().and_then(TransportError::mistake);
        let until_tomorrow = self.retry_after.is_some_and(|after| after > retry::LONGEST_ASKED);
        let quota = self
            .problem
            .as_ref()
            .is_some_and(|problem| problem.code == "quota_exceeded");
        mistake.is_none() && !(quota && until_tomorrow)
    }
}

/// One question.
struct Call<'a, Q> {
    doing: &'static str,
    method: Method,
    path: &'a str,
    /// As JSON; for a GET, as the query.
    body: Option<&'a Q>,
}

impl Broker {
    pub(crate) fn new(client: Client, settings: Settings, budget: Arc<Budget>) -> Self {
        Self {
            client,
            settings,
            budget,
            reached: AtomicBool::new(false),
        }
    }

    /// Its address as it was given.
    fn address(&self) -> String {
        self.settings.broker.as_str().trim_end_matches('/').to_owned()
    }

    /// Opens an upload, or finds the one that is open for the same file; also says whether it was found.
    pub(crate) async fn create(
        &self,
        asked: &CreateUpload,
        progress: &dyn Progress,
    ) -> Result<(UploadCreated, bool), UploadError> {
        let doing = "create the upload";
        let call = Call {
            doing,
            method: Method::POST,
            path: "v1/uploads",
            body: Some(asked),
        };
        let answer = self.call(&call, progress).await?;
        Ok((self.parse(doing, &answer)?, answer.status == StatusCode::OK))
    }

    /// Asks for a URL for each of these parts.
    pub(crate) async fn sign(
        &self,
        id: &UploadId,
        parts: Vec<PartToSign>,
        progress: &dyn Progress,
    ) -> Result<SignedParts, UploadError> {
        let path = format!("v1/uploads/{id}/parts");
        let asked = SignParts { parts };
        self.ask(HAVE_SIGNED, Method::POST, &path, Some(&asked), progress).await
    }

    /// Where an upload stands.
    pub(crate) async fn status(&self, id: &UploadId, progress: &dyn Progress) -> Result<UploadStatus, UploadError> {
        let path = format!("v1/uploads/{id}");
        self.ask::<(), _>("ask for the upload's status", Method::GET, &path, None, progress)
            .await
    }

    /// Has the store join the parts of a file of `size` bytes; waits while another request is at it.
    pub(crate) async fn complete(
        &self,
        id: &UploadId,
        size: u64,
        progress: &dyn Progress,
    ) -> Result<CompletedObject, UploadError> {
        let doing = COMPLETE;
        let path = format!("v1/uploads/{id}/complete");
        let asked = CompleteUpload { size: Some(size) };
        let end = Instant::now() + COMPLETING_TIMEOUT;
        loop {
            let call = Call {
                doing,
                method: Method::POST,
                path: &path,
                body: Some(&asked),
            };
            let answer = self.call(&call, progress).await?;
            if answer.status != StatusCode::ACCEPTED {
                return self.parse(doing, &answer);
            }
            let completing: Completing = self.parse(doing, &answer)?;
            if Instant::now() > end {
                let trouble = "has been completing this upload for half an hour";
                return Err(self.unreachable(doing, trouble.into(), None));
            }
            tokio::time::sleep(Duration::from_secs(completing.retry_after.clamp(1, 60))).await;
        }
    }

    /// Gives an upload up; what has arrived of it is removed.
    pub(crate) async fn abort(&self, id: &UploadId, progress: &dyn Progress) -> Result<(), UploadError> {
        let call = Call::<()> {
            doing: "abort the upload",
            method: Method::DELETE,
            path: &format!("v1/uploads/{id}"),
            body: None,
        };
        self.call(&call, progress).await.map(drop)
    }

    /// Opens an upload for each small file that may be sent.
    pub(crate) async fn create_batch(
        &self,
        files: Vec<BatchFile>,
        progress: &dyn Progress,
    ) -> Result<CreatedBatch, UploadError> {
        let asked = CreateBatch { files };
        self.ask("create the uploads", Method::POST, "v1/batches", Some(&asked), progress)
            .await
    }

    /// Asks which small files have become objects.
    pub(crate) async fn complete_batch(
        &self,
        uploads: Vec<UploadId>,
        progress: &dyn Progress,
    ) -> Result<CompletedBatch, UploadError> {
        let asked = CompleteBatch { uploads };
        let doing = "complete the uploads";
        self.ask(doing, Method::POST, "v1/batches/complete", Some(&asked), progress)
            .await
    }

    /// One page of what the caller has open.
    pub(crate) async fn open_uploads(&self, cursor: Option<String>) -> Result<OpenUploads, UploadError> {
        let query = ListUploads { cursor, limit: None };
        self.look("list the open uploads", "v1/uploads", &query).await
    }

    /// One page of objects.
    pub(crate) async fn objects(&self, query: &ListObjects) -> Result<ObjectList, UploadError> {
        self.look("list objects", "v1/objects", query).await
    }

    /// Asks for a URL to download an object by.
    pub(crate) async fn download(
        &self,
        asked: &CreateDownload,
        progress: &dyn Progress,
    ) -> Result<Download, UploadError> {
        self.ask(
            "download the object",
            Method::POST,
            "v1/downloads",
            Some(asked),
            progress,
        )
        .await
    }

    /// Who the broker takes us for.
    pub(crate) async fn me(&self, progress: &dyn Progress) -> Result<Me, UploadError> {
        self.ask::<(), _>("ask who this is", Method::GET, "v1/me", None, progress)
            .await
    }

    /// Asks by a query.
    async fn look<Q: Serialize, A: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
        query: &Q,
    ) -> Result<A, UploadError> {
        let call = Call {
            doing,
            method: Method::GET,
            path,
            body: Some(query),
        };
        self.parse(doing, &self.call(&call, &Silent).await?)
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        body: Option<&Q>,
        progress: &dyn Progress,
    ) -> Result<A, UploadError> {
        let call = Call {
            doing,
            method,
            path,
            body,
        };
        self.parse(doing, &self.call(&call, progress).await?)
    }

    fn parse<A: DeserializeOwned>(&self, doing: &'static str, answer: &Answer) -> Result<A, UploadError> {
        serde_json::from_slice(&answer.body).map_err(|error| UploadError::NotABroker {
            doing,
            broker: self.address(),
            // Only the place: the text around it may be a URL.
            what: format!(
                "{} with a body that breaks off or differs at column {}",
                answer.status,
                error.column()
            ),
        })
    }

    /// Asks until there is an answer that is a success or final.
    async fn call<Q: Serialize>(&self, call: &Call<'_, Q>, progress: &dyn Progress) -> Result<Answer, UploadError> {
        let mut spent = None;
        for attempt in 1.. {
            let trouble = match self.call_once(call).await {
                Ok(answer) => match self.judge(call.doing, answer)? {
                    Ok(answer) => {
                        self.budget.succeeded(spent);
                        return Ok(answer);
                    }
                    Err(trouble) => trouble,
                },
                Err(error) => Trouble {
                    what: if error.is_timeout() {
                        "did not answer in time"
                    } else {
                        "did not answer"
                    }
                    .into(),
                    retry_after: None,
                    cost: Cost::of(&error),
                    cause: Some(error.into()),
                    problem: None,
                },
            };
            let passes = trouble.passes();
            let after = self.policy().wait(attempt, retry::random(), trouble.retry_after);
            let Some(after) = after.filter(|_| passes) else {
                return Err(match trouble.problem {
                    Some(problem) => UploadError::Refused {
                        doing: call.doing,
                        problem,
                    },
                    None => self.unreachable(call.doing, trouble.what, trouble.cause),
                });
            };
            let what = format!("could not {}: the broker {}", call.doing, trouble.what);
            let (short, _) = trouble.what.split_once(": ").unwrap_or((&trouble.what, ""));
            let mut why = format!("the broker at {} {short}", self.address());
            match &trouble.problem {
                // Which limit it is, and what to do about it.
                Some(problem) if problem.code == "quota_exceeded" => why = refused::said(problem),
                Some(problem) => why = format!("{why} ({})", problem.title.to_lowercase()),
                None => {}
            }
            let cost = trouble.cost;
            self.budget
                .wait_and_spend(cost, after, attempt, (what, why), progress)
                .await;
            spent = Some(cost);
        }
        Err(self.unreachable(call.doing, "did not answer".into(), None))
    }

    fn policy(&self) -> RetryPolicy {
        if self.reached.load(Ordering::Relaxed) {
            self.settings.retry
        } else {
            self.settings.retry.first_contact()
        }
    }

    fn unreachable(&self, doing: &'static str, trouble: String, cause: Option<TransportError>) -> UploadError {
        UploadError::BrokerUnreachable {
            doing,
            broker: self.address(),
            trouble,
            resumable: self.reached.load(Ordering::Relaxed),
            cause,
        }
    }

    async fn call_once<Q: Serialize>(&self, call: &Call<'_, Q>) -> Result<Answer, reqwest::Error> {
        let mut url = self.settings.broker.clone();
        url.set_path(&format!("{}{}", self.settings.broker.path(), call.path));
        let mut request = self.client.request(call.method.clone(), url).timeout(REQUEST_TIMEOUT);
        if let Some(token) = &self.settings.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        request = match call.body {
            Some(query) if call.method == Method::GET => request.query(query),
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await?;
        Ok(Answer {
            status: response.status(),
            retry_after: retry::retry_after(response.headers()),
            body: read_at_most(response, LONGEST_ANSWER).await?,
        })
    }

    /// A success, trouble that may pass, or a final no.
    fn judge(&self, doing: &'static str, answer: Answer) -> Result<Result<Answer, Trouble>, UploadError> {
        let status = answer.status;
        if status.is_success() {
            self.reached.store(true, Ordering::Relaxed);
            return Ok(Ok(answer));
        }
        let problem = serde_json::from_slice::<Problem>(&answer.body).ok().map(Box::new);
        match (status.as_u16(), problem) {
            // A 502 in the broker's own words is its store's refusal, which stays; without them a proxy misses the broker.
            (502, Some(problem)) => Err(UploadError::Refused { doing, problem }),
            (408 | 429 | 502..=504, problem) => Ok(Err(Trouble {
                what: match &problem {
                    Some(problem) => format!("answered {status}: {}", problem.detail),
                    None => format!("answered {status}"),
                },
                retry_after: answer.retry_after,
                cause: None,
                cost: Cost::Retry,
                problem,
            })),
            (_, Some(problem)) => Err(UploadError::Refused { doing, problem }),
            (_, None) => Err(UploadError::NotABroker {
                doing,
                broker: self.address(),
                what: format!("{status} without a problem document"),
            }),
        }
    }
}

/// Reads an answer's body as far as `limit`; what is beyond is left, and the connection with it.
pub(crate) async fn read_at_most(mut response: Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() >= limit {
            body.truncate(limit);
            break;
        }
    }
    Ok(body)
}
