//! MD5 of sixteen 64 KiB buffers: every kernel of this processor beside the `md-5` crate, in one run.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use md5::{Digest as _, Md5};
use uploader::md5_lanes::{Kernel, Md5Lanes};

const STREAMS: usize = 16;
const CHUNK: usize = 64 * 1024;

fn md5(criterion: &mut Criterion) {
    let buffers: Vec<Vec<u8>> = (0..STREAMS).map(|lane| vec![lane.to_le_bytes()[0]; CHUNK]).collect();
    let chunks: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
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
                let mut md5 = Md5Lanes::new(kernel, STREAMS);
                md5.update(black_box(&chunks));
                md5.finish()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, md5);
criterion_main!(benches);
