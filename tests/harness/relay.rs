//! A plain TCP balancer: each connection goes to the next of its targets that answers. It can cut them all and let none in.

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
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Before these.
    pub async fn to(targets: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::new(Mutex::new(targets));
        let (open, opened) = watch::channel(true);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&targets), opened));
        Self {
            address,
            targets,
            open,
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
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, targets: Arc<Mutex<Vec<SocketAddr>>>, opened: watch::Receiver<bool>) {
    let turn = Arc::new(AtomicUsize::new(0));
    while let Ok((mut client, _)) = listener.accept().await {
        let (targets, turn, mut opened) = (Arc::clone(&targets), Arc::clone(&turn), opened.clone());
        tokio::spawn(async move {
            if !*opened.borrow_and_update() {
                return;
            }
            let targets = targets.lock().unwrap().clone();
            for _ in 0..targets.len() {
                let target = targets[turn.fetch_add(1, Ordering::Relaxed) % targets.len()];
                let Ok(mut server) = TcpStream::connect(target).await else {
                    continue;
                };
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = opened.wait_for(|open| !open) => {}
                }
                return;
            }
        });
    }
}
