//! Hashing a text of which only a few bytes change from part to part.
//!
//! ```text
//! Text: [ constant: taken into the state once ][ kept blocks, padded: patched and compressed for each part ]
//! ```
//!
//! The digest crates' block functions do the hashing; what is here spares their buffers, which at eight blocks a URL cost as
//! much again. Padding is that of FIPS 180-4 section 5.1.1, keyed hashing that of RFC 2104.

/// Bytes in a block of SHA-1 and SHA-256.
const BLOCK: usize = 64;

/// SHA-1 or SHA-256, block by block.
pub(super) trait Hash {
    /// The chaining value.
    type State: Copy;
    /// A digest's bytes.
    type Digest: AsRef<[u8]>;
    /// FIPS 180-4 section 5.3.
    const START: Self::State;
    /// Takes whole blocks into the state.
    fn compress(state: &mut Self::State, blocks: &[[u8; BLOCK]]);
    /// The state as bytes.
    fn digest(state: Self::State) -> Self::Digest;
}

/// SHA-256.
pub(super) struct Sha256;

impl Hash for Sha256 {
    type State = [u32; 8];
    type Digest = [u8; 32];
    const START: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    fn compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
        sha2::block_api::compress256(state, blocks);
    }

    fn digest(state: [u32; 8]) -> [u8; 32] {
        big_endian(&state)
    }
}

/// SHA-1.
pub(super) struct Sha1;

impl Hash for Sha1 {
    type State = [u32; 5];
    type Digest = [u8; 20];
    const START: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

    fn compress(state: &mut [u32; 5], blocks: &[[u8; BLOCK]]) {
        sha1::block_api::compress(state, blocks);
    }

    fn digest(state: [u32; 5]) -> [u8; 20] {
        big_endian(&state)
    }
}

fn big_endian<const N: usize>(words: &[u32]) -> [u8; N] {
    let mut bytes = [0; N];
    for (four, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *four = word.to_be_bytes();
    }
    bytes
}

/// A text to hash again and again, with other bytes in some places.
pub(super) struct Text<H: Hash> {
    /// After the blocks that never change.
    state: H::State,
    /// Bytes of the text that are in the state already.
    taken: usize,
    /// The rest of the text and its padding: whole blocks.
    rest: Vec<u8>,
}

impl<H: Hash> Text<H> {
    /// `text` after `before` bytes that `state` has taken in; its first `constant` bytes will not be patched.
    pub(super) fn new(mut state: H::State, before: usize, text: &[u8], constant: usize) -> Self {
        let taken = constant.min(text.len()) / BLOCK * BLOCK;
        let (first, last) = text.split_at(taken);
        H::compress(&mut state, first.as_chunks::<BLOCK>().0);
        let mut rest = last.to_vec();
        rest.push(0x80);
        rest.resize((rest.len() + 8).next_multiple_of(BLOCK) - 8, 0);
        let bits = 8 * (before + text.len()) as u64;
        rest.extend_from_slice(&bits.to_be_bytes());
        Self { state, taken, rest }
    }

    /// Puts other bytes at this place of the text, which was said not to be constant.
    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        let at = at.wrapping_sub(self.taken);
        if let Some(place) = self.rest.get_mut(at..at.wrapping_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }

    /// The hash of the text as it is now.
    pub(super) fn hash(&self) -> H::Digest {
        let mut state = self.state;
        H::compress(&mut state, self.rest.as_chunks::<BLOCK>().0);
        H::digest(state)
    }
}

/// HMAC over such a text.
pub(super) struct KeyedText<H: Hash> {
    inner: Text<H>,
    outer: Text<H>,
}

impl<H: Hash> KeyedText<H> {
    /// HMAC with `key` over `text`, whose first `constant` bytes will not be patched.
    pub(super) fn new(key: &[u8], text: &[u8], constant: usize) -> Self {
        let mut block = [0; BLOCK];
        let hashed;
        let key = if key.len() > BLOCK {
            hashed = Text::<H>::new(H::START, 0, key, 0).hash();
            hashed.as_ref()
        } else {
            key
        };
        for (byte, of_key) in block.iter_mut().zip(key) {
            *byte = *of_key;
        }
        let padded = |pad: u8| {
            let mut state = H::START;
            H::compress(&mut state, &[block.map(|byte| byte ^ pad)]);
            state
        };
        let digest = H::digest(H::START);
        Self {
            inner: Text::new(padded(0x36), BLOCK, text, constant),
            outer: Text::new(padded(0x5c), BLOCK, digest.as_ref(), 0),
        }
    }

    /// As [`Text::patch`].
    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.inner.patch(at, bytes);
    }

    /// The code of the text as it is now.
    pub(super) fn code(&mut self) -> H::Digest {
        let inner = self.inner.hash();
        self.outer.patch(0, inner.as_ref());
        self.outer.hash()
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    proptest! {
        #[test]
        fn a_patched_text_has_the_digest_crates_hash(
            text in prop::collection::vec(any::<u8>(), 1..400),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let at = at.index(text.len());
            let mut patched = text.clone();
            patched[at] = byte;
            let mut ours = Text::<Sha256>::new(Sha256::START, 0, &text, at);
            ours.patch(at, &[byte]);
            prop_assert_eq!(ours.hash(), <[u8; 32]>::from(sha2::Sha256::digest(&patched)));
            let mut ours = Text::<Sha1>::new(Sha1::START, 0, &text, at);
            ours.patch(at, &[byte]);
            prop_assert_eq!(ours.hash(), <[u8; 20]>::from(sha1::Sha1::digest(&patched)));
        }

        #[test]
        fn a_patched_keyed_text_has_the_hmac_crates_code(
            key in prop::collection::vec(any::<u8>(), 0..100),
            text in prop::collection::vec(any::<u8>(), 1..400),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let at = at.index(text.len());
            let mut patched = text.clone();
            patched[at] = byte;
            let mut ours = KeyedText::<Sha256>::new(&key, &text, at);
            ours.patch(at, &[byte]);
            let mut theirs = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
            theirs.update(&patched);
            prop_assert_eq!(ours.code(), <[u8; 32]>::from(theirs.finalize().into_bytes()));
            let mut ours = KeyedText::<Sha1>::new(&key, &text, at);
            ours.patch(at, &[byte]);
            let mut theirs = Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
            theirs.update(&patched);
            prop_assert_eq!(ours.code(), <[u8; 20]>::from(theirs.finalize().into_bytes()));
        }
    }
}
