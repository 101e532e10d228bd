//! `--if-changed`: of the files that are found, those that are at the store already fall out.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uploader::{Checked, Event, Presence, Present, Progress};

use crate::find::{Given, Next};
use crate::render::Render;
use crate::screen::Screen;

/// Files that are looked at at once.
const AT_ONCE: usize = 16;
/// Files that have been looked at and wait for their turn.
const AHEAD: usize = 64;

/// Passes on what `next` gives; a file that is at the store already only as that.
pub(crate) fn sift(present: Present, mut next: mpsc::Receiver<Next>, screen: Screen) -> mpsc::Receiver<Next> {
    let (found, sifted) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut looking = JoinSet::new();
        let mut more = true;
        while more || !looking.is_empty() {
            let seen = tokio::select! {
                Some(seen) = looking.join_next() => seen.ok(),
                met = next.recv(), if more && looking.len() < AT_ONCE => match met {
                    None => {
                        more = false;
                        None
                    }
                    Some(Next::Send { given: Given::Path(path), name, .. }) => {
                        let (present, render) = (present.clone(), Render::new(screen.clone(), &path));
                        looking.spawn(async move {
                            match present.check(&path, name.as_deref(), &render).await {
                                Presence::Unchanged => Next::Unchanged,
                                Presence::ToSend(checked) => Next::Send {
                                    given: Given::Path(path),
                                    name,
                                    checked: Some(checked),
                                },
                            }
                        });
                        None
                    }
                    other => other,
                },
            };
            if let Some(seen) = seen
                && found.send(seen).await.is_err()
            {
                // Nothing more can be sent: the finder notices by `next`, which ends here.
                break;
            }
        }
    });
    sifted
}

/// Shows an upload, and records what the file has become.
pub(crate) struct Recording {
    render: Arc<Render>,
    checked: Checked,
}

impl Recording {
    pub(crate) const fn new(render: Arc<Render>, checked: Checked) -> Self {
        Self { render, checked }
    }
}

impl Progress for Recording {
    fn event(&self, event: &Event) {
        self.render.event(event);
        if let Event::Completed(uploaded) = event {
            self.checked.became(uploaded, &*self.render);
        }
    }
}
