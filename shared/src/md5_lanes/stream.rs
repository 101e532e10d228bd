//! One MD5 in progress, and how several go on in lockstep: whole blocks together, what is left over kept until it is a block.

use md5::block_api::compress as compress_alone;

use crate::Md5Digest;

use super::Block;

/// What every MD5 begins with (RFC 1321 section 3.3).
const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// Advances every lane by as many blocks as the shortest has.
pub(super) type Compress<const LANES: usize> = fn(&mut [[u32; LANES]; 4], &[&[Block]; LANES]);

/// An MD5 in progress, by itself or with others ([`Kernel::update`](super::Kernel::update)).
#[derive(Clone, Debug)]
pub struct Md5Stream {
    state: [u32; 4],
    /// The bytes after the last whole block.
    begun: Block,
    filled: usize,
    /// Bytes so far, those of the block begun included.
    total: u64,
}

impl Default for Md5Stream {
    fn default() -> Self {
        Self::new()
    }
}

impl Md5Stream {
    /// Of no bytes yet.
    pub const fn new() -> Self {
        Self {
            state: INITIAL,
            begun: [0; 64],
            filled: 0,
            total: 0,
        }
    }

    /// Feeds it, and nothing else meanwhile.
    pub fn update(&mut self, bytes: &[u8]) {
        let blocks = self.take_in(bytes);
        compress_alone(&mut self.state, blocks);
    }

    /// The digest of all it was fed.
    pub fn finish(mut self) -> Md5Digest {
        // A one bit, zeros, and the length in bits (RFC 1321 sections 3.1 and 3.2): one block, or two.
        let mut bytes = [0; 128];
        for (to, from) in bytes.iter_mut().zip(self.begun.iter().take(self.filled).chain(&[0x80])) {
            *to = *from;
        }
        let count = if self.filled < 56 { 1 } else { 2 };
        let length = self.total.wrapping_mul(8).to_le_bytes();
        for (to, from) in bytes.iter_mut().skip(count * 64 - 8).zip(length) {
            *to = from;
        }
        let blocks = bytes.as_chunks().0;
        compress_alone(&mut self.state, blocks.get(..count).unwrap_or(blocks));
        let mut digest = [0; 16];
        for (to, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *to = word.to_le_bytes();
        }
        Md5Digest::from_bytes(digest)
    }

    /// Hashes the block begun earlier, if it is whole now, and keeps what comes after the last whole one; those in between
    /// are still to be hashed.
    fn take_in<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [Block] {
        self.total += bytes.len() as u64;
        if self.filled > 0 {
            self.fill(&mut bytes);
            if self.filled == self.begun.len() {
                compress_alone(&mut self.state, &[self.begun]);
                self.filled = 0;
            }
        }
        // Where the block is still not whole, nothing is left.
        let (blocks, mut rest) = bytes.as_chunks();
        self.fill(&mut rest);
        blocks
    }

    fn fill(&mut self, bytes: &mut &[u8]) {
        let free = self.begun.get_mut(self.filled..).unwrap_or_default();
        let (head, rest) = bytes.split_at(free.len().min(bytes.len()));
        for (to, from) in free.iter_mut().zip(head) {
            *to = *from;
        }
        self.filled += head.len();
        *bytes = rest;
    }
}

/// Blocks to hash, and the state that they advance.
struct Lane<'a> {
    state: &'a mut [u32; 4],
    blocks: &'a [Block],
}

/// Feeds `chunks[i]` to `streams[i]`, as many at once as there are lanes. So few as are not `worth` it go one by one.
pub(super) fn update<const LANES: usize>(
    compress: Compress<LANES>,
    worth: usize,
    streams: &mut [Md5Stream],
    chunks: &[&[u8]],
) {
    for (streams, chunks) in streams.chunks_mut(LANES).zip(chunks.chunks(LANES)) {
        let fed = streams.iter_mut().zip(chunks);
        let mut lanes: Vec<_> = fed
            .map(|(stream, chunk)| Lane {
                blocks: stream.take_in(chunk),
                state: &mut stream.state,
            })
            .collect();
        loop {
            lanes.retain(|lane| !lane.blocks.is_empty());
            let Some(shortest) = lanes.iter().map(|lane| lane.blocks).min_by_key(|blocks| blocks.len()) else {
                break;
            };
            if lanes.len() < worth {
                for lane in &mut lanes {
                    compress_alone(lane.state, lane.blocks);
                }
                break;
            }
            in_lockstep(compress, &mut lanes, shortest);
        }
    }
}

/// Advances each lane by as many blocks as `shortest` has.
fn in_lockstep<const LANES: usize>(compress: Compress<LANES>, lanes: &mut [Lane<'_>], shortest: &[Block]) {
    // Word `w` of lane `l` is `state[w][l]`, as the kernel loads it. Lanes that nobody needs read along with the shortest, and
    // what comes of that is dropped.
    let mut state: [[u32; LANES]; 4] = std::array::from_fn(|word| {
        std::array::from_fn(|lane| {
            let word = lanes.get(lane).and_then(|lane| lane.state.get(word));
            word.copied().unwrap_or_default()
        })
    });
    let blocks: [&[Block]; LANES] = std::array::from_fn(|lane| {
        let blocks = lanes.get(lane).and_then(|lane| lane.blocks.get(..shortest.len()));
        blocks.unwrap_or(shortest)
    });
    compress(&mut state, &blocks);
    for (word, words) in state.iter().enumerate() {
        for (lane, advanced) in lanes.iter_mut().zip(words) {
            if let Some(word) = lane.state.get_mut(word) {
                *word = *advanced;
            }
        }
    }
    for lane in lanes {
        lane.blocks = lane.blocks.get(shortest.len()..).unwrap_or_default();
    }
}
