//! `put`: what is asked is checked, its files are found, and sent while others are found.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::mpsc;
use uploader::{Link, PutOptions, UploadError, Uploader, WalkOptions};

use crate::cli::{Common, Put};
use crate::commands::{EXIT_INTERRUPTED, exit_code, interrupted};
use crate::find::{self, Given, STDIN, find};
use crate::log::Log;
use crate::screen::Screen;
use crate::sending::Sending;
use crate::sift::sift;
use crate::{dry_run, throttle, xdg};

/// So many named files have a line each on a terminal too: whoever names them wants to hear of them.
const FEW: usize = 20;
/// Files that are known before they can be sent: enough that none has to be waited for.
const FOUND_AHEAD: usize = 256;
/// How long the uploads of streams may take to be given up after an interruption.
const GIVE_UP: Duration = Duration::from_secs(3);

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
    let mut screen = screen.verbose(put.verbose);
    if several {
        screen = screen.of_several(few);
    }
    let screen = &screen;
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
    let sending = Sending::new(uploader.clone(), put.options(), put.concurrency, screen.clone());
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
            for id in uploader.completing_streams() {
                screen.error(&format!(
                    "standard input or a link had been sent whole: whether it has become an object, `uploader status {id}` tells"
                ));
            }
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
            match given.or_else(|| xdg::state_home().map(|state| state.join("uploader"))) {
                Some(directory) => builder = builder.journal_dir(directory),
                None => screen.warning(
                    "no journal is kept: neither XDG_STATE_HOME nor HOME says where, nor does the system know a home directory. \
                     --journal-dir names a directory, --no-journal does without",
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
