//! MD5 of many streams at once: one stream fills one 32-bit lane of a vector register.
//!
//! MD5 of one stream is a chain of dependent steps: no processor gets much past 0.6 GB/s. The parts of a file are
//! separate streams, so sixteen of them go through the same chain side by side. Which kernel runs is found out at
//! run time; where there is none, each stream goes through the `md-5` crate, which is also what the tests compare with.

// The vector instructions themselves: loads, stores, and calls that hold only where the processor has them.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod group;
#[cfg(target_arch = "x86_64")]
mod rounds;

use group::Group;
use md5::{Digest as _, Md5};
use shared::Md5Digest;

/// What MD5 works on at a time (RFC 1321 section 3.4).
type Block = [u8; 64];

/// A way to hash, which this processor can run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kernel(Instructions);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Kernel {
    /// One stream after the other, by the `md-5` crate.
    pub const PORTABLE: Self = Self(Instructions::Portable);

    /// Every kernel that this processor can run, the widest first; the last is [`Kernel::PORTABLE`].
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                kernels.push(Self(Instructions::Avx512));
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                kernels.push(Self(Instructions::Avx2));
            }
        }
        kernels.push(Self::PORTABLE);
        kernels
    }

    /// The fastest kernel for this many streams: one stream alone gains nothing from lanes.
    pub fn best_for(streams: usize) -> Self {
        let widest = Self::available().first().copied().unwrap_or(Self::PORTABLE);
        if streams > 1 { widest } else { Self::PORTABLE }
    }

    /// Streams that it hashes in about the time of one.
    pub const fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2::LANES,
            Instructions::Portable => 1,
        }
    }

    /// Its name, for benchmarks and logs.
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => "avx2",
            Instructions::Portable => "portable",
        }
    }
}

/// Several MD5s in progress, fed together through small buffers.
#[derive(Debug)]
pub struct Md5Lanes(Engine);

#[derive(Debug)]
enum Engine {
    #[cfg(target_arch = "x86_64")]
    Avx512(Vec<Group<{ avx512::LANES }>>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Vec<Group<{ avx2::LANES }>>),
    Portable(Vec<Md5>),
}

impl Md5Lanes {
    /// Begins `streams` hashes. More streams than the kernel has lanes are hashed in groups, one after the other.
    pub fn new(kernel: Kernel, streams: usize) -> Self {
        let groups = streams.div_ceil(kernel.lanes());
        Self(match kernel.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => Engine::Avx512(vec![Group::new(avx512_compress); groups]),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => Engine::Avx2(vec![Group::new(avx2_compress); groups]),
            Instructions::Portable => Engine::Portable(vec![Md5::new(); groups]),
        })
    }

    /// Feeds `chunks[i]` to stream `i`. Chunks may differ in length and may be empty; streams past the last chunk get
    /// nothing, chunks past the last stream are not read. Fastest where all have the same length, a multiple of 64.
    pub fn update(&mut self, chunks: &[&[u8]]) {
        match &mut self.0 {
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512(groups) => update_groups(groups, chunks),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2(groups) => update_groups(groups, chunks),
            Engine::Portable(hashers) => hashers
                .iter_mut()
                .zip(chunks)
                .for_each(|(md5, chunk)| md5.update(chunk)),
        }
    }

    /// The digests, in the order of the streams; at least as many as streams were asked for.
    pub fn finish(self) -> Vec<Md5Digest> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512(groups) => groups.into_iter().flat_map(Group::finish).collect(),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2(groups) => groups.into_iter().flat_map(Group::finish).collect(),
            Engine::Portable(hashers) => hashers
                .into_iter()
                .map(|md5| Md5Digest::from_bytes(md5.finalize().into()))
                .collect(),
        }
    }
}

fn update_groups<const LANES: usize>(groups: &mut [Group<LANES>], chunks: &[&[u8]]) {
    for (group, chunks) in groups.iter_mut().zip(chunks.chunks(LANES)) {
        group.update(chunks);
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512_compress(state: &mut [[u32; avx512::LANES]; 4], lanes: &[&[Block]; avx512::LANES]) {
    // SAFETY: only `Engine::Avx512` holds this function, only `Kernel` leads there, its field is private, and
    // `Kernel::available` makes that value only where the processor has AVX-512F.
    unsafe { avx512::compress(state, lanes) }
}

#[cfg(target_arch = "x86_64")]
fn avx2_compress(state: &mut [[u32; avx2::LANES]; 4], lanes: &[&[Block]; avx2::LANES]) {
    // SAFETY: as for `avx512_compress`: a `Kernel` for AVX2 exists only where the processor has it.
    unsafe { avx2::compress(state, lanes) }
}

#[cfg(test)]
mod tests;
