//! Every kernel against the `md-5` crate.

use md5::{Digest as _, Md5};
use proptest::prelude::*;

use crate::Md5Digest;

use super::*;

fn reference(stream: &[u8]) -> Md5Digest {
    Md5Digest::from_bytes(Md5::digest(stream).into())
}

/// Bytes that differ from stream to stream and from place to place.
fn stream(seed: usize, length: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[2]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Feeds the streams `step` bytes at a time, as a reader with small buffers does.
fn lanes(kernel: Kernel, streams: &[Vec<u8>], step: usize) -> Vec<Md5Digest> {
    let mut md5 = vec![Md5Stream::new(); streams.len()];
    let longest = streams.iter().map(Vec::len).max().unwrap_or_default();
    for start in (0..longest).step_by(step) {
        let chunks: Vec<&[u8]> = streams
            .iter()
            .map(|stream| &stream[start.min(stream.len())..(start + step).min(stream.len())])
            .collect();
        kernel.update(&mut md5, &chunks);
    }
    md5.into_iter().map(Md5Stream::finish).collect()
}

#[test]
fn the_published_examples_come_out() {
    // RFC 1321 appendix A.5.
    let examples = [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        (
            "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            "57edf4a22be3c955ac49da2e2107b67a",
        ),
    ];
    for kernel in Kernel::available() {
        let streams = examples.map(|(text, _)| text.as_bytes().to_vec());
        let digests = lanes(kernel, &streams, 64);
        for (digest, (text, expected)) in digests.iter().zip(examples) {
            assert_eq!(digest.to_hex(), expected, "{text:?} by {}", kernel.name());
        }
    }
}

#[test]
fn every_count_of_lanes_and_every_edge_of_a_block_agrees_with_the_reference() {
    let lengths = [
        0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 191, 1000, 4096, 4100,
    ];
    for kernel in Kernel::available() {
        for count in 0..=34 {
            let streams: Vec<_> = (0..count)
                .map(|lane| stream(lane, lengths[(lane * 5 + count) % lengths.len()]))
                .collect();
            let expected: Vec<_> = streams.iter().map(|stream| reference(stream)).collect();
            for step in [1, 63, 64, 100, 8192] {
                let name = kernel.name();
                assert_eq!(
                    lanes(kernel, &streams, step),
                    expected,
                    "{count} lanes by {name}, {step} at a time"
                );
            }
        }
    }
}

#[test]
fn this_processor_runs_the_kernels_it_has() {
    let kernels = Kernel::available();
    assert_eq!(kernels.last(), Some(&Kernel::PORTABLE));
    assert_eq!(Kernel::best_for(1), Kernel::PORTABLE);
    assert_eq!(Some(&Kernel::best_for(16)), kernels.first());
    assert_eq!(Some(&Kernel::widest()), kernels.first());
}

proptest! {
    #[test]
    fn any_streams_cut_anyhow_agree_with_the_reference(
        streams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..20),
        cuts in prop::collection::vec(0_usize..200, 1..40),
    ) {
        let expected: Vec<_> = streams.iter().map(|stream| reference(stream)).collect();
        for kernel in Kernel::available() {
            let mut md5 = vec![Md5Stream::new(); streams.len()];
            let mut left: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
            // A different cut for each lane each time: chunks uneven, some empty.
            for round in 0.. {
                if left.iter().all(|stream| stream.is_empty()) {
                    break;
                }
                let chunks: Vec<&[u8]> = left
                    .iter_mut()
                    .enumerate()
                    .map(|(lane, stream)| {
                        let cut = if round < 50 { cuts[(lane * 7 + round) % cuts.len()] } else { usize::MAX };
                        let (chunk, rest) = stream.split_at(cut.min(stream.len()));
                        *stream = rest;
                        chunk
                    })
                    .collect();
                kernel.update(&mut md5, &chunks);
            }
            let digests: Vec<_> = md5.into_iter().map(Md5Stream::finish).collect();
            prop_assert_eq!(&digests, &expected, "{}", kernel.name());
        }
    }
}
