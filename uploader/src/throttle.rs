//! The rate changes while files are sent: halved by SIGUSR1, doubled by SIGUSR2.

use std::io;
use std::num::NonZeroU64;

use tokio::signal::unix::{SignalKind, signal};
use uploader::Uploader;

use crate::render::Screen;

/// Listens from now on, where a rate is set; without one the signals keep their meaning, which is to end the process.
pub(crate) fn follow_signals(uploader: &Uploader, screen: &Screen) -> io::Result<()> {
    if uploader.limit_rate().is_none() {
        return Ok(());
    }
    let (mut halve, mut double) = (
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    );
    let (uploader, screen) = (uploader.clone(), screen.clone());
    tokio::spawn(async move {
        loop {
            let change: fn(NonZeroU64) -> NonZeroU64 = tokio::select! {
                Some(()) = halve.recv() => halved,
                Some(()) = double.recv() => doubled,
                else => return,
            };
            if let Some(rate) = uploader.limit_rate().map(change) {
                uploader.set_limit_rate(Some(rate));
                screen.rate_changed(rate.get());
            }
        }
    });
    Ok(())
}

/// Half of it, but never nothing: that would be no limit.
fn halved(rate: NonZeroU64) -> NonZeroU64 {
    NonZeroU64::new(rate.get() / 2).unwrap_or(rate)
}

fn doubled(rate: NonZeroU64) -> NonZeroU64 {
    rate.saturating_mul(NonZeroU64::MIN.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_halved_down_to_a_byte_and_doubled_up_to_all_there_is() {
        let rate = |bytes| NonZeroU64::new(bytes).unwrap();
        assert_eq!((halved(rate(7)), halved(rate(1))), (rate(3), rate(1)));
        assert_eq!(
            (doubled(rate(7)), doubled(NonZeroU64::MAX)),
            (rate(14), NonZeroU64::MAX)
        );
    }
}
