//! MD5 of sixteen 64 KiB buffers: every kernel of this processor beside the `md-5` crate, in one run.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use md5::{Digest as _, Md5};
use shared::md5_lanes::{Kernel, Md5Stream};

const STREAMS: usize = 16;
const CHUNK: usize = 64 * 1024;
const LINE: usize = 64;

fn md5(criterion: &mut Criterion) {
    // Laid out as the uploader lays them out: aligned, each a cache line further on.
    let memory: Vec<u8> = (0..(STREAMS + 1) * (CHUNK + LINE))
        .map(|place| place.to_le_bytes()[0])
        .collect();
    let (_, aligned) = memory.split_at(memory.as_ptr().align_offset(LINE).min(LINE));
    let chunks: Vec<&[u8]> = aligned
        .chunks(CHUNK + LINE)
        .filter_map(|buffer| buffer.get(..CHUNK))
        .take(STREAMS)
        .collect();
    let mut group = criterion.benchmark_group("md5, 16 x 64 KiB");
    group.throughput(Throughput::Bytes((STREAMS * CHUNK) as u64));
    group.bench_function("md-5", |bencher| {
        bencher.iter(|| {
            chunks
                .iter()
                .map(|chunk| Md5::digest(black_box(chunk)))
                .collect::<Vec<_>>()
        });
    });
    for kernel in Kernel::available() {
        group.bench_function(kernel.name(), |bencher| {
            bencher.iter(|| {
                let mut streams = vec![Md5Stream::new(); STREAMS];
                kernel.update(&mut streams, black_box(&chunks));
                streams.into_iter().map(Md5Stream::finish).collect::<Vec<_>>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, md5);
criterion_main!(benches);
