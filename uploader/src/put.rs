//! One part to its URL, again and again until the store has it or will not have it.

use std::ops::Range;
use std::time::{Duration, Instant};

use reqwest::Body;
use shared::api::UploadState;
use shared::{Md5Digest, PartNumber};

use crate::answer;
use crate::body::PartBody;
use crate::broker::read_at_most;
use crate::budget::Cost;
use crate::error::{TransportError, UploadError};
use crate::progress::Event;
use crate::rate::Pace;
use crate::retry::{self, Verdict};
use crate::sign::PartUrl;
use crate::source::{Change, SourceError};
use crate::transfer::Upload;

/// How long the body waits for a refusal of its head, after a connection was cut while a body was being sent.
const HOLD: Duration = Duration::from_secs(1);
/// How often a part may arrive damaged while the file reads the same each time.
const DAMAGED_TIMES: u32 = 3;
/// Longest error document that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// A part about to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) number: PartNumber,
    pub(crate) range: Range<u64>,
    pub(crate) digest: Md5Digest,
}

impl Part {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// How one sending of a part failed.
enum Failure {
    /// The file could not be read, or is no longer the same.
    Source(SourceError),
    /// No answer from the store.
    Network {
        trouble: String,
        cause: Option<TransportError>,
        stalled: bool,
        cut_while_sending: bool,
        cost: Cost,
    },
    /// An answer that is no success.
    Refused {
        status: u16,
        document: String,
        retry_after: Option<Duration>,
    },
}

/// What has been tried for a part.
#[derive(Default)]
struct History {
    tries: u32,
    damaged: u32,
    had_fresh_url: bool,
    /// What the latest retry has cost.
    spent: Option<Cost>,
}

/// Why a part is to be sent again.
struct Trouble {
    what: String,
    cause: Option<TransportError>,
    /// The store's `Retry-After`.
    asked: Option<Duration>,
    cost: Cost,
}

impl Trouble {
    fn answer(what: String, asked: Option<Duration>) -> Self {
        Self {
            what,
            cause: None,
            asked,
            cost: Cost::Retry,
        }
    }
}

impl Upload {
    /// Sends one part, by `url` at first, until the store has taken it.
    pub(crate) async fn send_part(&self, part: Part, mut url: PartUrl) -> Result<(), UploadError> {
        let mut history = History::default();
        let mut hold = None;
        loop {
            if url.is_old(Instant::now()) {
                url = self.sign_part(&part).await?;
            }
            let failure = match self.send_once(&part, &url, hold).await {
                Ok(()) => {
                    self.engine.limiter.succeeded();
                    self.engine.budget.succeeded(history.spent);
                    let (number, size) = (part.number, part.length());
                    self.progress.event(&Event::PartStored { number, size });
                    return Ok(());
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Source(error) => return Err(error.into()),
                Failure::Network {
                    trouble,
                    cause,
                    stalled,
                    cut_while_sending,
                    cost,
                } => {
                    if stalled {
                        self.engine.limiter.overloaded();
                    }
                    hold = cut_while_sending.then_some(HOLD);
                    let trouble = Trouble {
                        what: trouble,
                        cause,
                        asked: None,
                        cost,
                    };
                    self.wait(&part, &url, &mut history, trouble).await?;
                }
                Failure::Refused {
                    status,
                    document,
                    retry_after,
                } => {
                    let code = retry::s3_code(&document);
                    let answer = answer::describe(status, &document);
                    let again = |asked| Trouble::answer(answer.clone(), asked);
                    let verdict = match retry::judge(status, code) {
                        Verdict::AskBroker => self.ask_broker().await?,
                        other => other,
                    };
                    match verdict {
                        Verdict::Again => self.wait(&part, &url, &mut history, again(retry_after)).await?,
                        Verdict::Overloaded => {
                            self.engine.limiter.overloaded();
                            self.wait(&part, &url, &mut history, again(retry_after)).await?;
                        }
                        Verdict::Reread => {
                            self.reread(&part, &url, &mut history).await?;
                            self.wait(&part, &url, &mut history, again(None)).await?;
                        }
                        Verdict::Full => {
                            return Err(UploadError::StoreFull {
                                number: part.number,
                                store: url.store(),
                                answer,
                            });
                        }
                        Verdict::FreshUrl | Verdict::AskBroker if history.had_fresh_url => {
                            return Err(UploadError::StoreRefused {
                                number: part.number,
                                store: url.store(),
                                answer,
                            });
                        }
                        Verdict::FreshUrl | Verdict::AskBroker => {
                            history.had_fresh_url = true;
                            url = self.sign_part(&part).await?;
                        }
                    }
                }
            }
        }
    }

    /// Waits before the next try, or gives up.
    async fn wait(
        &self,
        part: &Part,
        url: &PartUrl,
        history: &mut History,
        trouble: Trouble,
    ) -> Result<(), UploadError> {
        let (retry, budget) = (self.engine.settings.retry, &self.engine.budget);
        history.tries += 1;
        let attempt = history.tries;
        let Some(after) = retry.wait(attempt, retry::random(), trouble.asked) else {
            return Err(UploadError::StoreUnreachable {
                number: part.number,
                store: url.store(),
                tries: attempt,
                trouble: trouble.what,
                cause: trouble.cause,
            });
        };
        let what = format!("part {} did not reach {}: {}", part.number, url.store(), trouble.what);
        let told = (what, answer::of_store(&url.store(), &trouble.what));
        budget
            .wait_and_spend(trouble.cost, after, attempt, told, &*self.progress)
            .await;
        history.spent = Some(trouble.cost);
        Ok(())
    }

    /// The store found other bytes than were hashed: did the file change, or were they damaged on the way?
    async fn reread(&self, part: &Part, url: &PartUrl, history: &mut History) -> Result<(), UploadError> {
        let digests = self
            .engine
            .hashing
            .hash(self.source.clone(), vec![part.range.clone()])
            .await?;
        if digests != [part.digest] {
            return Err(SourceError::Changed {
                path: self.source.path().to_owned(),
                change: Change::Content,
            }
            .into());
        }
        history.damaged += 1;
        if history.damaged > DAMAGED_TIMES {
            return Err(UploadError::Damaged {
                number: part.number,
                store: url.store(),
                times: history.damaged,
            });
        }
        Ok(())
    }

    /// The store does not know the upload. Where the broker says it is open, a fresh URL may find it.
    async fn ask_broker(&self) -> Result<Verdict, UploadError> {
        match self.engine.broker.status(&self.id, &*self.progress).await?.state {
            UploadState::Open => Ok(Verdict::FreshUrl),
            ended => Err(UploadError::Gone(ended)),
        }
    }

    /// Sends the part's bytes once and reads the answer, also where the store answers before it has them all.
    async fn send_once(&self, part: &Part, url: &PartUrl, hold: Option<Duration>) -> Result<(), Failure> {
        let engine = &self.engine;
        let (body, meter) = PartBody::start(
            self.source.clone(),
            part.range.clone(),
            engine.buffers.clone(),
            self.progress.clone(),
            hold,
            Pace::new(engine.rate.clone()),
        );
        let exchange = async {
            let response = engine
                .store
                .request(url.method.clone(), url.url.clone())
                .headers(url.headers.clone())
                .body(Body::wrap(body))
                .send()
                .await?;
            let status = response.status();
            let retry_after = retry::retry_after(response.headers());
            // Read to its end, so that the connection can be used again. A refusal that cannot be read is still one.
            let document = read_at_most(response, LONGEST_ANSWER).await.unwrap_or_default();
            Ok::<_, reqwest::Error>((status, retry_after, document))
        };
        let network = |trouble: String, cost, cause: Option<TransportError>, stalled| Failure::Network {
            trouble,
            cause,
            stalled,
            cut_while_sending: !stalled && meter.sent() > 0,
            cost,
        };
        let failure = tokio::select! {
            answer = exchange => match answer {
                Ok((status, ..)) if status.is_success() && meter.sent() == part.length() => return Ok(()),
                Ok((status, ..)) if status.is_success() => {
                    network(format!("it answered {status} before it had every byte"), Cost::Retry, None, false)
                }
                Ok((status, retry_after, document)) => Failure::Refused {
                    status: status.as_u16(),
                    document: String::from_utf8_lossy(&document).into_owned(),
                    retry_after,
                },
                Err(error) => network(
                    answer::trouble(&error).into(),
                    Cost::of(&error),
                    Some(error.into()),
                    false,
                ),
            },
            () = meter.stalled(part.length(), engine.settings.stall) => {
                network(format!("nothing moved for {} s", engine.settings.stall.as_secs()), Cost::Timeout, None, true)
            }
        };
        self.progress.event(&Event::Unsent { bytes: meter.sent() });
        Err(match meter.source_error() {
            Some(error) => Failure::Source(error),
            None => failure,
        })
    }
}
