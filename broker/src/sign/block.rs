//! Hashing a text of which only a few bytes change from part to part.
//!
//! ```text
//! Text: [ constant: taken into the state once ][ kept blocks, padded: patched and compressed for each part ]
//!                                              └ one copy a lane
//! ```
//!
//! The digest crates' block functions do the hashing; what is here spares their buffers, which at eight blocks a URL cost as
//! much again. Padding is that of FIPS 180-4 section 5.1.1, keyed hashing that of RFC 2104.
//!
//! Lanes are for the processor's sake: each block waits for the one before it, so hashing several texts one after another,
//! before anything else is done with any of them, lets it begin the next while the last is still under way; and a byte just
//! patched is not read back before it has left the store buffer.

/// Bytes in a block of SHA-1 and SHA-256.
const BLOCK: usize = 64;

/// How many versions of a text there are at a time: their blocks stay in the fastest cache.
pub(super) const LANES: usize = 16;

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

    #[inline]
    fn compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
        sha2::block_api::compress256(state, blocks);
    }

    #[inline]
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

    #[inline]
    fn compress(state: &mut [u32; 5], blocks: &[[u8; BLOCK]]) {
        sha1::block_api::compress(state, blocks);
    }

    #[inline]
    fn digest(state: [u32; 5]) -> [u8; 20] {
        big_endian(&state)
    }
}

#[inline]
fn big_endian<const N: usize>(words: &[u32]) -> [u8; N] {
    let mut bytes = [0; N];
    for (four, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *four = word.to_be_bytes();
    }
    bytes
}

/// A text to hash again and again, with other bytes in some places: [`LANES`] versions of it.
pub(super) struct Text<H: Hash> {
    /// After the blocks that never change.
    state: H::State,
    /// Bytes of the text that are in the state already.
    taken: usize,
    /// The rest of the text and its padding, whole blocks, for each lane.
    lanes: Vec<u8>,
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
        let lanes = rest.repeat(LANES);
        Self { state, taken, lanes }
    }

    /// This place of one lane's text, which was said not to be constant, to be written to.
    #[inline]
    pub(super) fn place(&mut self, lane: usize, at: usize, length: usize) -> &mut [u8] {
        let start = (lane * (self.lanes.len() / LANES) + at).wrapping_sub(self.taken);
        self.lanes
            .get_mut(start..start.wrapping_add(length))
            .unwrap_or_default()
    }

    /// Puts other bytes at this place of one lane's text.
    #[inline]
    pub(super) fn patch<const N: usize>(&mut self, lane: usize, at: usize, bytes: &[u8; N]) {
        if let Some(place) = self.place(lane, at, N).first_chunk_mut() {
            *place = *bytes;
        }
    }

    /// The hash of this lane's text as it is now.
    #[inline]
    pub(super) fn hash(&self, lane: usize) -> H::Digest {
        let length = self.lanes.len() / LANES;
        let blocks = self.lanes.get(lane * length..(lane + 1) * length).unwrap_or_default();
        let mut state = self.state;
        H::compress(&mut state, blocks.as_chunks::<BLOCK>().0);
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
            hashed = Text::<H>::new(H::START, 0, key, 0).hash(0);
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

    /// The text whose codes these are.
    #[inline]
    pub(super) fn text(&mut self) -> &mut Text<H> {
        &mut self.inner
    }

    /// First half of the code of this lane's text as it is now.
    #[inline]
    pub(super) fn hash(&mut self, lane: usize) {
        let digest = self.inner.hash(lane);
        let digest = digest.as_ref();
        self.outer.place(lane, 0, digest.len()).copy_from_slice(digest);
    }

    /// Second half: the code of this lane's text as it was when it was hashed.
    #[inline]
    pub(super) fn code(&self, lane: usize) -> H::Digest {
        self.outer.hash(lane)
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
            lane in 0..LANES,
        ) {
            let at = at.index(text.len());
            let mut patched = text.clone();
            patched[at] = byte;
            let mut ours = Text::<Sha256>::new(Sha256::START, 0, &text, at);
            ours.patch(lane, at, &[byte]);
            prop_assert_eq!(ours.hash(lane), <[u8; 32]>::from(sha2::Sha256::digest(&patched)));
            let mut ours = Text::<Sha1>::new(Sha1::START, 0, &text, at);
            ours.patch(lane, at, &[byte]);
            prop_assert_eq!(ours.hash(lane), <[u8; 20]>::from(sha1::Sha1::digest(&patched)));
        }

        #[test]
        fn a_patched_keyed_text_has_the_hmac_crates_code(
            key in prop::collection::vec(any::<u8>(), 0..100),
            text in prop::collection::vec(any::<u8>(), 1..400),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            lane in 0..LANES,
        ) {
            let at = at.index(text.len());
            let mut patched = text.clone();
            patched[at] = byte;
            let mut ours = KeyedText::<Sha256>::new(&key, &text, at);
            ours.text().patch(lane, at, &[byte]);
            let mut theirs = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
            theirs.update(&patched);
            ours.hash(lane);
            prop_assert_eq!(ours.code(lane), <[u8; 32]>::from(theirs.finalize().into_bytes()));
            let mut ours = KeyedText::<Sha1>::new(&key, &text, at);
            ours.text().patch(lane, at, &[byte]);
            let mut theirs = Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
            theirs.update(&patched);
            ours.hash(lane);
            prop_assert_eq!(ours.code(lane), <[u8; 20]>::from(theirs.finalize().into_bytes()));
        }
    }
}
