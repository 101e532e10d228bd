//! Randomness for ids, tokens and waits.

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness ids could be guessed; no answer at all is the better one.
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the operating system gives no random bytes; stopping");
        std::process::abort();
    }
    bytes
}
