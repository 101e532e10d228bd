//! As many MD5s as a kernel has lanes: whole blocks in lockstep, and what is left over kept until it is a block.

use shared::Md5Digest;

use super::Block;

/// State of every lane after no bytes (RFC 1321 section 3.3).
const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// Advances every lane by as many blocks as the shortest has.
type Compress<const LANES: usize> = fn(&mut [[u32; LANES]; 4], &[&[Block]; LANES]);

#[derive(Clone, Debug)]
pub(super) struct Group<const LANES: usize> {
    /// Word `w` of lane `l` is `state[w][l]`, as the kernel loads it.
    state: [[u32; LANES]; 4],
    tails: [Tail; LANES],
    compress: Compress<LANES>,
}

/// The bytes of a stream after its last whole block.
#[derive(Clone, Copy, Debug)]
struct Tail {
    block: Block,
    filled: usize,
    /// Bytes of the stream so far, these included.
    total: u64,
}

impl Tail {
    /// Takes from `chunk` what completes the block begun; true when it is complete.
    fn fill(&mut self, chunk: &mut &[u8]) -> bool {
        let free = self.block.get_mut(self.filled..).unwrap_or_default();
        let taken = free.len().min(chunk.len());
        let (head, rest) = chunk.split_at(taken);
        for (to, from) in free.iter_mut().zip(head) {
            *to = *from;
        }
        *chunk = rest;
        self.filled += taken;
        self.filled == self.block.len()
    }

    /// The last one or two blocks: the tail, a one bit, zeros, the length in bits (RFC 1321 sections 3.1 and 3.2).
    fn padded(&self) -> ([Block; 2], usize) {
        let mut bytes = [0; 128];
        for (to, from) in bytes.iter_mut().zip(self.block.iter().take(self.filled).chain(&[0x80])) {
            *to = *from;
        }
        let blocks = if self.filled < 56 { 1 } else { 2 };
        let length = self.total.wrapping_mul(8).to_le_bytes();
        for (to, from) in bytes.iter_mut().skip(blocks * 64 - 8).zip(length) {
            *to = from;
        }
        let (first, second) = bytes.split_at(64);
        let block = |half: &[u8]| *half.first_chunk().unwrap_or(&[0; 64]);
        ([block(first), block(second)], blocks)
    }
}

impl<const LANES: usize> Group<LANES> {
    pub(super) fn new(compress: Compress<LANES>) -> Self {
        Self {
            state: INITIAL.map(|word| [word; LANES]),
            tails: [Tail {
                block: [0; 64],
                filled: 0,
                total: 0,
            }; LANES],
            compress,
        }
    }

    /// Feeds one chunk to each lane, in order.
    pub(super) fn update(&mut self, chunks: &[&[u8]]) {
        let mut left = [&[][..]; LANES];
        for (left, chunk) in left.iter_mut().zip(chunks) {
            *left = chunk;
        }
        // Blocks begun earlier come first.
        let mut begun = [[0; 64]; LANES];
        let mut ready = [false; LANES];
        for (((tail, chunk), begun), ready) in self.tails.iter_mut().zip(&mut left).zip(&mut begun).zip(&mut ready) {
            tail.total += chunk.len() as u64;
            if tail.filled > 0 && tail.fill(chunk) {
                (*begun, *ready, tail.filled) = (tail.block, true, 0);
            }
        }
        if ready.contains(&true) {
            self.advance(std::array::from_fn(|lane| match (begun.get(lane), ready.get(lane)) {
                (Some(block), Some(true)) => std::slice::from_ref(block),
                _ => &[],
            }));
        }
        // Where a block is still begun, nothing is left of the chunk.
        self.advance(left.map(|chunk| chunk.as_chunks().0));
        for (tail, chunk) in self.tails.iter_mut().zip(left) {
            let mut rest = chunk.as_chunks::<64>().1;
            tail.fill(&mut rest);
        }
    }

    /// The digest of every lane.
    pub(super) fn finish(mut self) -> [Md5Digest; LANES] {
        let padded = self.tails.map(|tail| tail.padded());
        self.advance(std::array::from_fn(|lane| {
            let padded = padded.get(lane);
            padded
                .and_then(|(blocks, count)| blocks.get(..*count))
                .unwrap_or_default()
        }));
        let [a, b, c, d] = self.state;
        std::array::from_fn(|lane| {
            let mut digest = [0; 16];
            let words = [&a, &b, &c, &d].map(|word| word.get(lane).copied().unwrap_or_default().to_le_bytes());
            for (to, from) in digest.iter_mut().zip(words.as_flattened()) {
                *to = *from;
            }
            Md5Digest::from_bytes(digest)
        })
    }

    /// Hashes each lane's blocks, all lanes that still have some in lockstep.
    fn advance(&mut self, mut lanes: [&[Block]; LANES]) {
        while let Some(shortest) = lanes
            .iter()
            .copied()
            .filter(|lane| !lane.is_empty())
            .min_by_key(|lane| lane.len())
        {
            let before = self.state;
            // A lane with nothing to do reads along with another, and its state is put back.
            let active = lanes.map(|lane| !lane.is_empty());
            let blocks = lanes.map(|lane| lane.get(..shortest.len()).unwrap_or(shortest));
            (self.compress)(&mut self.state, &blocks);
            for (word, before) in self.state.iter_mut().zip(before) {
                for ((word, before), active) in word.iter_mut().zip(before).zip(active) {
                    if !active {
                        *word = before;
                    }
                }
            }
            lanes = lanes.map(|lane| lane.get(shortest.len()..).unwrap_or_default());
        }
    }
}
