//! Where ids, tokens and names come from: the operating system, or a seed where a test has to be told again as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

/// A source of random bytes. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Random(Option<Arc<Seeded>>);

#[derive(Debug)]
struct Seeded {
    seed: u64,
    drawn: AtomicU64,
}

impl Random {
    /// The same bytes for the same seed, drawn in the same order. For tests: whoever knows the seed knows every token.
    pub fn seeded(seed: u64) -> Self {
        Self(Some(Arc::new(Seeded {
            seed,
            drawn: AtomicU64::new(0),
        })))
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0 {
            Some(source) => {
                for piece in bytes.chunks_mut(32) {
                    let mut hash = Sha256::new();
                    hash.update(source.seed.to_be_bytes());
                    hash.update(source.drawn.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                    for (byte, of_hash) in piece.iter_mut().zip(hash.finalize()) {
                        *byte = of_hash;
                    }
                }
            }
            // Without randomness ids could be guessed; no answer at all is the better one.
            None if getrandom::fill(&mut bytes).is_err() => {
                tracing::error!("the operating system gives no random bytes; stopping");
                std::process::abort();
            }
            None => {}
        }
        bytes
    }
}

/// Random bytes from the operating system, where nothing has ever to be told again.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    Random::default().bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_no_bytes_twice() {
        let drawn = |seed| {
            let random = Random::seeded(seed);
            [random.bytes::<16>(), random.bytes(), random.clone().bytes()]
        };
        assert_eq!(drawn(1), drawn(1));
        let all: std::collections::HashSet<_> = drawn(1).into_iter().chain(drawn(2)).collect();
        assert_eq!(all.len(), 6);
        assert_ne!(Random::default().bytes::<16>(), Random::default().bytes());
    }
}
