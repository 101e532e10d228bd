//! `put`: files are found, sent some at a time, and summed up.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use uploader::{
    Checked, Link, MAX_SMALL, MAX_TOGETHER, Progress, PutOptions, SmallFile, UploadError, Uploaded, Uploader,
    WalkOptions,
};

use crate::cli::{Common, Put};
use crate::commands::{EXIT_INTERRUPTED, EXIT_SOME_FAILED, exit_code, interrupted};
use crate::find::{self, Given, Next, STDIN, find};
use crate::log::Log;
use crate::render::Render;
use crate::screen::{Detail, Screen};
use crate::sift::{Recording, sift};
use crate::sum::Sum;
use crate::{dry_run, throttle};

/// So many named files have a line each on a terminal too: whoever names them wants to hear of them.
const FEW: usize = 20;
/// Files that are known before they can be sent: enough that none has to be waited for.
const FOUND_AHEAD: usize = 256;
/// How long the uploads of streams may take to be given up after an interruption.
const GIVE_UP: Duration = Duration::from_secs(3);
/// How long the finder may take to notice that nothing more can be sent.
const FINDER_STOPS: Duration = Duration::from_secs(1);
/// A file counts as one of the files under way for each of so many bytes: small ones go many at a time, large ones alone.
const BYTES_OF_ONE: u64 = 8 << 20;
/// Small files are sent together: as many as come to so many bytes, which are in memory then.
const BYTES_TOGETHER: u64 = 16 << 20;
/// Groups of small files under way: one is read and hashed while another is sent.
const GROUPS: usize = 2;

/// Uploads every source; answers the exit code.
pub(crate) async fn put_all(common: &Common, put: &Put, screen: &Screen) -> u8 {
    let checked = match put.unusable() {
        Some(why) => Err(UploadError::Settings(why.into())),
        None if put.reads_stdin() && std::io::stdin().is_terminal() => {
            let why =
                "standard input is a terminal: pipe something into it, as in pg_dump | uploader put --name db.dump -";
            Err(UploadError::Settings(why.into()))
        }
        None => put.uploader(common, screen),
    };
    if let (Ok(uploader), Some(limit)) = (&checked, &put.limit_rate) {
        uploader.set_limit_rate(limit.now());
    }
    let uploader = match checked {
        Ok(uploader) => uploader,
        Err(error) => {
            screen.failure(&error);
            return exit_code(&error);
        }
    };
    let given: Result<Vec<_>, _> = put.sources.iter().map(|source| Given::read(source)).collect();
    let given = match given {
        Ok(given) => given,
        Err(error) => {
            screen.failure(&error);
            return exit_code(&error);
        }
    };
    let named = put.if_changed.then(|| find::named(&given, put.name.as_deref()));
    let several = given.len() > 1 || given.iter().any(Given::is_directory);
    let few = given.len() <= FEW && !given.iter().any(Given::is_directory);
    let screen = &match several {
        true => screen.of_several(few, put.verbose),
        false => screen.clone(),
    };
    let screen = &screen.verbose(put.verbose);
    let (found, next) = mpsc::channel(FOUND_AHEAD);
    let (name, walk) = (put.name.clone(), put.walk());
    let finder = tokio::task::spawn_blocking(move || find(given, name.as_deref(), &walk, &found));
    if put.dry_run {
        let next = match named {
            None => next,
            Some(named) => match uploader.preview_present(&named, &put.options(), screen).await {
                Ok(present) => sift(present, next, screen.clone()),
                Err(error) => {
                    screen.failure(&error);
                    return exit_code(&error);
                }
            },
        };
        return dry_run::explain(&uploader, put, screen, next).await;
    }
    let log = put.log_dir.as_deref();
    let screen = &match log.map(|directory| Log::open(directory, OffsetDateTime::now_utc())) {
        None => screen.clone(),
        Some(Ok(log)) => screen.logging(log),
        Some(Err(error)) => {
            screen.failure(&error);
            return exit_code(&error);
        }
    };
    if several {
        screen.show_total();
    }
    if let Err(error) = throttle::follow(put.limit_rate.as_ref(), &uploader, screen) {
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
        small: Vec::new(),
        small_bytes: 0,
        groups: 0,
        sum: Sum::default(),
        codes: Vec::new(),
        hopeless: false,
    };
    let uploader = sending.uploader.clone();
    let sending = async {
        let Some(named) = named else {
            return sending.run(next, finder).await;
        };
        match uploader.present(&named, &put.options(), screen).await {
            Ok(present) => sending.run(sift(present, next, screen.clone()), finder).await,
            Err(error) => {
                screen.failure(&error);
                exit_code(&error)
            }
        }
    };
    tokio::select! {
        code = sending => code,
        () = interrupted() => {
            screen.clear();
            screen.error("interrupted; what arrived of files is kept, and the same command continues them");
            if let Ok((streams @ 1.., told)) = tokio::time::timeout(GIVE_UP, uploader.abort_streams()).await {
                let rest = if told < streams { "; the broker could not be told, and ends that in its time" } else { "" };
                screen.error(&format!("what was read of standard input or a link is given up{rest}"));
            }
            EXIT_INTERRUPTED
        }
    }
}

impl Put {
    /// Whether standard input is among the sources.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.sources.iter().any(|source| source.as_os_str() == STDIN)
    }

    /// Why sources and flags do not go together, if they do not.
    pub(crate) fn unusable(&self) -> Option<&'static str> {
        let is_link = |source: &PathBuf| source.to_str().is_some_and(Link::is_meant);
        match (&self.name, self.sources.len()) {
            (_, 0) => Some("no source is named: give a SOURCE, or a profile of the settings file that has `sources`"),
            (Some(_), 2..) => Some("--name is for one source, and there are several; upload them one by one"),
            (None, _) if self.reads_stdin() => {
                Some("standard input has no name of its own: give it one with --name, and send it alone")
            }
            _ if self.if_changed && (self.reads_stdin() || self.sources.iter().any(is_link)) => {
                Some("--if-changed is for files and directories: whether a stream has changed is known once it is sent")
            }
            _ => None,
        }
    }

    fn uploader(&self, common: &Common, screen: &Screen) -> Result<Uploader, UploadError> {
        let mut builder = common.builder();
        if !self.no_journal {
            // An empty variable is how scripts leave one out.
            let given = self.journal_dir.clone().filter(|path| !path.as_os_str().is_empty());
            match given.or_else(default_journal_dir) {
                Some(directory) => builder = builder.journal_dir(directory),
                None => screen.warning(
                    "no journal is kept: neither HOME nor XDG_STATE_HOME says where. --journal-dir names a directory, \
                     --no-journal does without",
                ),
            }
        }
        builder
            .concurrency(self.concurrency)
            .stall_timeout(Duration::from_secs(self.stall_timeout))
            .build()
    }

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
            one_file_system: self.one_file_system,
        }
    }
}

/// Where the XDG Base Directory Specification has what programs keep between runs.
fn default_journal_dir() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("uploader"))
}

/// What has come of one source, or of small files that were sent together.
enum Ended {
    One(Arc<Render>, Result<Uploaded, UploadError>),
    Group(
        Vec<(SmallFile, Arc<Render>)>,
        Result<Vec<Result<Uploaded, UploadError>>, UploadError>,
    ),
}

/// Uploads under way, and what has come of those that ended.
struct Sending {
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
    async fn run(mut self, mut next: mpsc::Receiver<Next>, finder: JoinHandle<bool>) -> u8 {
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
        if self.uploader.limit_rate().is_some() {
            // There was no limit when they came.
            self.small_bytes = 0;
            for (file, render) in std::mem::take(&mut self.small) {
                self.send_one(Given::Path(file.path), file.options, render, file.progress);
            }
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
            // Under a limit every body has to wait for its turn, byte by byte.
            Given::Path(path)
                if size <= MAX_SMALL && self.screen.detail != Detail::Whole && self.uploader.limit_rate().is_none() =>
            {
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
