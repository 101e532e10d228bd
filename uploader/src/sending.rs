//! Files on their way: small ones together, large ones alone, each counted by how it ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use uploader::{Checked, MAX_SMALL, MAX_TOGETHER, Progress, PutOptions, SmallFile, UploadError, Uploaded, Uploader};

use crate::commands::{EXIT_SOME_FAILED, exit_code};
use crate::find::{Given, Next};
use crate::render::Render;
use crate::screen::{Detail, Screen};
use crate::sift::Recording;
use crate::sum::Sum;

/// How long the finder may take to notice that nothing more can be sent.
const FINDER_STOPS: Duration = Duration::from_secs(1);
/// A file counts as one of the files under way for each of so many bytes: small ones go many at a time, large ones alone.
const BYTES_OF_ONE: u64 = 8 << 20;
/// Small files are sent together: as many as come to so many bytes, which are in memory then.
pub(crate) const BYTES_TOGETHER: u64 = 16 << 20;
/// Groups of small files under way: one is read and hashed while another is sent.
const GROUPS: usize = 2;

/// What has come of one source, or of small files that were sent together.
enum Ended {
    One(Arc<Render>, Result<Uploaded, UploadError>),
    Group(
        Vec<(SmallFile, Arc<Render>)>,
        Result<Vec<Result<Uploaded, UploadError>>, UploadError>,
    ),
}

/// Uploads under way, and what has come of those that ended.
pub(crate) struct Sending {
    uploader: Uploader,
    options: PutOptions,
    screen: Screen,
    slots: Arc<Semaphore>,
    concurrency: usize,
    under_way: JoinSet<Ended>,
    /// Small files that wait to be sent together, and their bytes.
    small: Vec<(SmallFile, Arc<Render>)>,
    small_bytes: u64,
    /// How many such groups are under way.
    groups: usize,
    sum: Sum,
    codes: Vec<u8>,
    /// Nothing more can be sent.
    hopeless: bool,
}

impl Sending {
    /// So many parts, and so many files, are sent at a time.
    pub(crate) fn new(uploader: Uploader, options: PutOptions, concurrency: usize, screen: Screen) -> Self {
        Self {
            uploader,
            options,
            screen,
            slots: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            under_way: JoinSet::new(),
            small: Vec::new(),
            small_bytes: 0,
            groups: 0,
            sum: Sum::default(),
            codes: Vec::new(),
            hopeless: false,
        }
    }

    /// Sends what `next` gives, until `finder` finds no more of it; answers the exit code.
    pub(crate) async fn run(mut self, mut next: mpsc::Receiver<Next>, finder: JoinHandle<bool>) -> u8 {
        let mut more = true;
        while more || !self.under_way.is_empty() || (!self.small.is_empty() && !self.hopeless) {
            if next.is_empty() || !self.has_room() {
                self.send_small();
            }
            tokio::select! {
                Some(done) = self.under_way.join_next() => match done {
                    Ok(ended) => {
                        match ended {
                            Ended::One(render, result) => self.ended(&render, result),
                            Ended::Group(files, result) => self.group_ended(files, result),
                        }
                        if self.hopeless {
                            more = false;
                            next.close();
                            self.under_way.abort_all();
                        }
                    }
                    Err(stopped) if stopped.is_cancelled() => self.sum.untried += 1,
                    Err(_) => self.codes.push(EXIT_SOME_FAILED),
                },
                met = next.recv(), if more && self.under_way.len() < self.concurrency && self.has_room() => match met {
                    None => {
                        more = false;
                        self.send_small();
                    }
                    Some(Next::Send { given, name, checked }) => self.send(given, name, checked),
                    Some(Next::Unchanged) => self.sum.unchanged += 1,
                    Some(Next::Skipped { path, what }) => {
                        self.sum.left_out.add(&path, what);
                        self.screen.skipped(&path, what);
                    }
                    Some(Next::Empty { path }) => self.screen.empty(&path),
                    Some(Next::Failed { path, error }) => {
                        let render = Render::new(self.screen.clone(), &path);
                        self.ended(&render, Err(error));
                    }
                },
            }
        }
        self.sum.untried += u64::try_from(self.small.len()).unwrap_or_default();
        while next.recv().await.is_some() {
            self.sum.untried += 1;
        }
        // What was found too late to be taken counts as well; a finder that is deep in a directory is not waited for.
        let all_taken = tokio::time::timeout(FINDER_STOPS, finder).await;
        self.sum.untried += u64::from(!matches!(all_taken, Ok(Ok(true))));
        self.screen.summary(&self.sum);
        exit_code_of_all(&self.codes)
    }

    /// Whether one more small file can wait.
    fn has_room(&self) -> bool {
        self.small.len() < MAX_TOGETHER && self.small_bytes < BYTES_TOGETHER
    }

    /// Sends the small files that wait, if not too many are under way.
    fn send_small(&mut self) {
        if self.small.is_empty() || self.groups >= GROUPS || self.hopeless {
            return;
        }
        self.groups += 1;
        // Files that were being looked at when the group was full have come since.
        let rest = self.small.split_off(self.small.len().min(MAX_TOGETHER));
        let group = std::mem::replace(&mut self.small, rest);
        self.small_bytes = 0;
        let uploader = self.uploader.clone();
        self.under_way.spawn(async move {
            let files: Vec<_> = group.iter().map(|(file, _)| file.clone()).collect();
            let result = uploader.put_together(&files).await;
            Ended::Group(group, result)
        });
    }

    /// Notes how small files ended; where they could not go together, they go alone.
    fn group_ended(
        &mut self,
        files: Vec<(SmallFile, Arc<Render>)>,
        result: Result<Vec<Result<Uploaded, UploadError>>, UploadError>,
    ) {
        self.groups -= 1;
        match result {
            Ok(outcomes) => {
                for ((_, render), outcome) in files.iter().zip(outcomes) {
                    self.ended(render, outcome);
                }
            }
            Err(error) if concerns_all(&error) => {
                let others = files.len().saturating_sub(1);
                if let Some((_, render)) = files.first() {
                    self.ended(render, Err(error));
                }
                self.sum.untried += u64::try_from(others).unwrap_or_default();
            }
            Err(_) => {
                for (file, render) in files {
                    self.send_one(Given::Path(file.path), file.options, render, file.progress);
                }
            }
        }
    }

    fn send(&mut self, given: Given, name: Option<String>, checked: Option<Checked>) {
        let render = Arc::new(Render::new(self.screen.clone(), &given.shown()));
        let progress: Arc<dyn Progress> = match checked {
            None => render.clone(),
            Some(checked) => Arc::new(Recording::new(render.clone(), checked)),
        };
        let options = PutOptions {
            name,
            ..self.options.clone()
        };
        let size = given.weight();
        match given {
            Given::Path(path) if size <= largest_small(&self.uploader) && self.screen.detail != Detail::Whole => {
                self.small_bytes += size;
                self.small.push((
                    SmallFile {
                        path,
                        options,
                        progress,
                    },
                    render,
                ));
            }
            given => self.send_one(given, options, render, progress),
        }
    }

    fn send_one(&mut self, given: Given, options: PutOptions, render: Arc<Render>, progress: Arc<dyn Progress>) {
        let (uploader, slots) = (self.uploader.clone(), self.slots.clone());
        let most = u64::try_from(self.concurrency).unwrap_or(u64::MAX);
        self.under_way.spawn(async move {
            let slots =
                slots.acquire_many_owned(u32::try_from((given.weight() / BYTES_OF_ONE).clamp(1, most)).unwrap_or(1));
            // Nobody closes the semaphore; without a permit the file would only be sent sooner.
            let _permit = slots.await;
            let result = match &given {
                Given::Stdin => uploader.put_reader(std::io::stdin(), &options, progress).await,
                Given::Link(link) => uploader.put_link(link, &options, progress).await,
                Given::Path(path) => uploader.put(path, &options, progress).await,
            };
            Ended::One(render, result)
        });
    }

    /// Notes how one upload ended.
    fn ended(&mut self, render: &Render, result: Result<Uploaded, UploadError>) {
        match result {
            Ok(uploaded) => self.sum.add(&uploaded),
            // Said once is enough.
            Err(error) if self.hopeless && concerns_all(&error) => self.sum.untried += 1,
            Err(error) => {
                let code = exit_code(&error);
                render.failed(&error, code);
                self.sum.failed += 1;
                self.codes.push(code);
                self.hopeless |= concerns_all(&error);
            }
        }
    }
}

/// Most bytes of a file that goes with others. Under a limit it goes at once when its time has come, where a body of its own
/// would go share by share: a quarter of a second's worth does no harm.
pub(crate) fn largest_small(uploader: &Uploader) -> u64 {
    let limit = uploader.limit_rate();
    limit.map_or(MAX_SMALL, |limit| MAX_SMALL.min(limit.get() / 4))
}

/// The exit code that tells of all these failures.
pub(crate) fn exit_code_of_all(codes: &[u8]) -> u8 {
    match codes.split_first() {
        None => 0,
        Some((first, others)) if others.iter().all(|code| code == first) => *first,
        Some(_) => EXIT_SOME_FAILED,
    }
}

/// Whether what stands in the way of one file stands in the way of all.
fn concerns_all(error: &UploadError) -> bool {
    match error {
        UploadError::BrokerUnreachable { .. } | UploadError::NotABroker { .. } => true,
        UploadError::Refused { problem, .. } => problem.status == 401,
        _ => false,
    }
}
