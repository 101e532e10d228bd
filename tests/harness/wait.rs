//! Waiting for what has to happen, without ever waiting for ever.

use std::time::Duration;

use tokio::time::{interval, timeout};

/// Whatever takes longer has hung; no test relies on this being reached.
const HUNG: Duration = Duration::from_mins(3);

/// What `work` answers; fails the test where it hangs.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(HUNG, work).await.expect("this hangs")
}

/// Returns once `condition` holds; fails the test if it never does.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let mut look = interval(Duration::from_millis(5));
    in_time(async {
        while !condition() {
            look.tick().await;
        }
    })
    .await;
}
