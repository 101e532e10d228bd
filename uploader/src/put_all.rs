//! `put`: files are found, sent some at a time, and summed up.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use uploader::{Found, PutOptions, UploadError, Uploaded, Uploader, WalkOptions};

use crate::cli::{Common, Put, Rate};
use crate::commands::{EXIT_SOME_FAILED, exit_code};
use crate::log::Log;
use crate::render::{Render, Screen, Sum};
use crate::{dry_run, throttle};

/// The source that is no file.
pub(crate) const STDIN: &str = "-";
/// Files that are known before they can be sent: enough that none has to be waited for.
const FOUND_AHEAD: usize = 256;
/// How long the finder may take to notice that nothing more can be sent.
const FINDER_STOPS: Duration = Duration::from_secs(1);
/// A file counts as one of the files under way for each of so many bytes: small ones go many at a time, large ones alone.
const BYTES_OF_ONE: u64 = 8 << 20;

/// What the finder has come upon.
pub(crate) enum Next {
    /// To be sent, by its own name if no other is given.
    Send { path: PathBuf, name: Option<String> },
    /// Left out.
    Skipped { path: PathBuf, what: &'static str },
    /// Not to be looked at.
    Failed { path: PathBuf, error: UploadError },
}

/// Uploads every source; answers the exit code.
pub(crate) async fn put_all(common: &Common, put: &Put, screen: &Screen) -> u8 {
    let checked = match put.name {
        Some(_) if put.sources.len() > 1 => {
            let why = "--name is for one source, and there are several; upload them one by one";
            Err(UploadError::Settings(why.into()))
        }
        None if put.sources.iter().any(|source| source.as_os_str() == STDIN) => {
            let why = "standard input has no name of its own: give it one with --name, and send it alone";
            Err(UploadError::Settings(why.into()))
        }
        Some(_) if put.sources.iter().any(|source| source.as_os_str() == STDIN) && std::io::stdin().is_terminal() => {
            let why =
                "standard input is a terminal: pipe something into it, as in pg_dump | uploader put --name db.dump -";
            Err(UploadError::Settings(why.into()))
        }
        _ => common.uploader(put.concurrency, Duration::from_secs(put.stall_timeout)),
    };
    if let (Ok(uploader), Some(Rate(limit))) = (&checked, put.limit_rate) {
        uploader.set_limit_rate(limit);
    }
    let uploader = match checked {
        Ok(uploader) => uploader,
        Err(error) => {
            screen.failure(&error);
            return exit_code(&error);
        }
    };
    let (found, next) = mpsc::channel(FOUND_AHEAD);
    let (sources, name, walk) = (put.sources.clone(), put.name.clone(), put.walk());
    let finder = tokio::task::spawn_blocking(move || find(&sources, name.as_deref(), &walk, &found));
    if put.dry_run {
        return dry_run::explain(&uploader, put, screen, next).await;
    }
    let screen = &match put
        .log_dir
        .as_deref()
        .map(|directory| Log::open(directory, OffsetDateTime::now_utc()))
    {
        None => screen.clone(),
        Some(Ok(log)) => screen.logging(log),
        Some(Err(error)) => {
            screen.failure(&error);
            return exit_code(&error);
        }
    };
    if put.sources.len() > 1
        || put
            .sources
            .iter()
            .any(|source| source.as_os_str() != STDIN && source.is_dir())
    {
        screen.show_total();
    }
    if let Err(error) = throttle::follow_signals(&uploader, screen) {
        screen.error(&format!(
            "the signals USR1 and USR2 cannot be listened to ({error}); the rate stays as it is"
        ));
    }
    let sending = Sending {
        uploader,
        options: put.options(),
        screen: screen.clone(),
        slots: Arc::new(Semaphore::new(put.concurrency)),
        concurrency: put.concurrency,
        under_way: JoinSet::new(),
        sum: Sum::default(),
        codes: Vec::new(),
        hopeless: false,
    };
    sending.run(next, finder).await
}

impl Put {
    pub(crate) fn options(&self) -> PutOptions {
        PutOptions {
            name: None,
            content_type: self.content_type.clone(),
            acl: self.acl.clone(),
            metadata: self.meta.iter().cloned().collect(),
            destination: self.destination.clone(),
            part_size: self.part_size,
        }
    }

    fn walk(&self) -> WalkOptions {
        WalkOptions {
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            gitignore: self.gitignore,
            follow_links: self.follow_links,
        }
    }
}

/// Finds the files of all sources, as fast as they are taken; whether all that it found were.
fn find(sources: &[PathBuf], name: Option<&str>, walk: &WalkOptions, found: &mpsc::Sender<Next>) -> bool {
    for source in sources {
        if source.as_os_str() == STDIN || !source.is_dir() {
            // Also what is not there: sending it says so.
            let (path, name) = (source.clone(), name.map(str::to_owned));
            if found.blocking_send(Next::Send { path, name }).is_err() {
                return false;
            }
            continue;
        }
        let mut taken = true;
        let walked = match prefix(source, name) {
            Ok(prefix) => walk.walk(source, &prefix, |met| {
                taken = found.blocking_send(met.into()).is_ok();
                taken
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = walked {
            let path = source.clone();
            taken &= found.blocking_send(Next::Failed { path, error }).is_ok();
        }
        if !taken {
            return false;
        }
    }
    true
}

impl From<Found> for Next {
    fn from(met: Found) -> Self {
        match met {
            Found::File { path, name } => Self::Send { path, name: Some(name) },
            Found::Skipped { path, what } => Self::Skipped { path, what },
            Found::Failed { path, error } => Self::Failed {
                path,
                error: error.into(),
            },
        }
    }
}

/// What stands before the names of a directory's files: another name if one is given, or its own, or nothing for its
/// content alone (`photos/`, `.`).
fn prefix(directory: &Path, name: Option<&str>) -> Result<String, UploadError> {
    if let Some(name) = name {
        return Ok(name.trim_end_matches('/').to_owned());
    }
    let bytes = directory.as_os_str().as_encoded_bytes();
    match directory.file_name() {
        Some(own) if !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") => {
            let path = directory.to_owned();
            let not_utf8 = || uploader::SourceError::NameNotUtf8 { path };
            Ok(own.to_str().map(str::to_owned).ok_or_else(not_utf8)?)
        }
        Some(_) | None => Ok(String::new()),
    }
}

/// Uploads under way, and what has come of those that ended.
struct Sending {
    uploader: Uploader,
    options: PutOptions,
    screen: Screen,
    slots: Arc<Semaphore>,
    concurrency: usize,
    under_way: JoinSet<(Arc<Render>, Result<Uploaded, UploadError>)>,
    sum: Sum,
    codes: Vec<u8>,
    /// Nothing more can be sent.
    hopeless: bool,
}

impl Sending {
    async fn run(mut self, mut next: mpsc::Receiver<Next>, finder: JoinHandle<bool>) -> u8 {
        let mut more = true;
        while more || !self.under_way.is_empty() {
            tokio::select! {
                Some(done) = self.under_way.join_next() => match done {
                    Ok((render, result)) => {
                        self.ended(&render, result);
                        if self.hopeless {
                            more = false;
                            next.close();
                            self.under_way.abort_all();
                        }
                    }
                    Err(stopped) if stopped.is_cancelled() => self.sum.untried += 1,
                    Err(_) => self.codes.push(EXIT_SOME_FAILED),
                },
                met = next.recv(), if more && self.under_way.len() < self.concurrency => match met {
                    None => more = false,
                    Some(Next::Send { path, name }) => self.send(path, name),
                    Some(Next::Skipped { path, what }) => {
                        self.sum.skipped += 1;
                        self.screen.skipped(&path, what);
                    }
                    Some(Next::Failed { path, error }) => {
                        let render = Render::new(self.screen.clone(), &path);
                        self.ended(&render, Err(error));
                    }
                },
            }
        }
        while next.recv().await.is_some() {
            self.sum.untried += 1;
        }
        // What was found too late to be taken counts as well; a finder that is deep in a directory is not waited for.
        let all_taken = tokio::time::timeout(FINDER_STOPS, finder).await;
        self.sum.untried += u64::from(!matches!(all_taken, Ok(Ok(true))));
        self.screen.summary(&self.sum);
        exit_code_of_all(&self.codes)
    }

    fn send(&mut self, path: PathBuf, name: Option<String>) {
        let render = Arc::new(Render::new(self.screen.clone(), &path));
        let options = PutOptions {
            name,
            ..self.options.clone()
        };
        let (uploader, slots) = (self.uploader.clone(), self.slots.clone());
        let most = u64::try_from(self.concurrency).unwrap_or(u64::MAX);
        self.under_way.spawn(async move {
            let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let slots = slots.acquire_many_owned(u32::try_from((size / BYTES_OF_ONE).clamp(1, most)).unwrap_or(1));
            // Nobody closes the semaphore; without a permit the file would only be sent sooner.
            let _permit = slots.await;
            let result = if path.as_os_str() == STDIN {
                uploader.put_reader(std::io::stdin(), &options, render.clone()).await
            } else {
                uploader.put(&path, &options, render.clone()).await
            };
            (render, result)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_name_unless_its_content_or_another_name_is_meant() {
        let of = |path: &str, name| prefix(Path::new(path), name).unwrap();
        for (path, expected) in [
            ("photos", "photos"),
            ("/srv/photos", "photos"),
            ("../photos", "photos"),
            ("photos/", ""),
            ("photos/.", ""),
            (".", ""),
            ("..", ""),
            ("/", ""),
        ] {
            assert_eq!(of(path, None), expected, "{path}");
        }
        assert_eq!(of("photos/", Some("a/b/")), "a/b");
        assert_eq!(of("photos", Some("")), "");
    }
}
