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
#[cfg(target_arch = "x86_64")]
mod rounds;
mod stream;

pub use stream::Md5Stream;

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

    /// The one of most lanes, which hashes few streams one by one where that is faster.
    pub fn widest() -> Self {
        Self::available().first().copied().unwrap_or(Self::PORTABLE)
    }

    /// The fastest kernel for this many streams: few of them gain nothing from lanes.
    pub fn best_for(streams: usize) -> Self {
        let widest = Self::widest();
        if streams < widest.worth() {
            Self::PORTABLE
        } else {
            widest
        }
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

    /// From how many streams on it is faster than one after the other.
    const fn worth(self) -> usize {
        match self.0 {
            // A step takes as long as one of a single stream: rotation is one instruction.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => 2,
            // A step takes twice as long.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => 3,
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

    /// Feeds `chunks[i]` to `streams[i]`, in groups of as many as it has lanes. Chunks may differ in length and may be empty;
    /// streams past the last chunk get nothing, chunks past the last stream are not read. Fastest where all have the same
    /// length, a multiple of 64.
    pub fn update(self, streams: &mut [Md5Stream], chunks: &[&[u8]]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => stream::update(avx512_compress, self.worth(), streams, chunks),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => stream::update(avx2_compress, self.worth(), streams, chunks),
            Instructions::Portable => {
                for (stream, chunk) in streams.iter_mut().zip(chunks) {
                    stream.update(chunk);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512_compress(state: &mut [[u32; avx512::LANES]; 4], lanes: &[&[Block]; avx512::LANES]) {
    // SAFETY: only `Kernel::update` leads here, from a `Kernel` whose field is private, and `Kernel::available` makes that
    // value only where the processor has AVX-512F.
    unsafe { avx512::compress(state, lanes) }
}

#[cfg(target_arch = "x86_64")]
fn avx2_compress(state: &mut [[u32; avx2::LANES]; 4], lanes: &[&[Block]; avx2::LANES]) {
    // SAFETY: as for `avx512_compress`: a `Kernel` for AVX2 exists only where the processor has it.
    unsafe { avx2::compress(state, lanes) }
}

#[cfg(test)]
mod tests;
