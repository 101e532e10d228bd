//! A plain TCP balancer: each connection goes to the next of its targets that answers. It can cut them all and let none in, or
//! fall silent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One listener before some targets. Ends when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    line: watch::Sender<Line>,
    accepting: JoinHandle<()>,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    Open,
    Silent,
    Cut,
}

impl Relay {
    /// Before these.
    pub async fn to(targets: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::new(Mutex::new(targets));
        let (line, watched) = watch::channel(Line::Open);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&targets), watched));
        Self {
            address,
            targets,
            line,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts another target in the place of one.
    pub fn replace(&self, place: usize, target: SocketAddr) {
        self.targets.lock().unwrap()[place] = target;
    }

    /// Cuts all connections, and closes new ones at once, until [`Relay::mend`].
    pub fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// Keeps all connections and takes new ones, and lets nothing through, until [`Relay::mend`], which ends them.
    pub fn hush(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.line.send_replace(Line::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, targets: Arc<Mutex<Vec<SocketAddr>>>, line: watch::Receiver<Line>) {
    let turn = Arc::new(AtomicUsize::new(0));
    while let Ok((mut client, _)) = listener.accept().await {
        let (targets, turn, mut line) = (Arc::clone(&targets), Arc::clone(&turn), line.clone());
        tokio::spawn(async move {
            let now = *line.borrow_and_update();
            match now {
                Line::Open => {}
                Line::Silent => {
                    _ = line.wait_for(|line| *line != Line::Silent).await;
                    return;
                }
                Line::Cut => return,
            }
            let targets = targets.lock().unwrap().clone();
            for _ in 0..targets.len() {
                let target = targets[turn.fetch_add(1, Ordering::Relaxed) % targets.len()];
                let Ok(mut server) = TcpStream::connect(target).await else {
                    continue;
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = line.wait_for(|line| *line != Line::Open) => {}
                }
                // Both ends are kept while the line is silent.
                _ = line.wait_for(|line| *line != Line::Silent).await;
                return;
            }
        });
    }
}
