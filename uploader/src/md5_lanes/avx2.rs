//! Eight MD5 states at once, one to each 32-bit lane of AVX2 registers.

use core::arch::asm;
use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::Block;
use super::rounds::{four_rounds, step};

/// Streams hashed together.
pub(super) const LANES: usize = 8;

#[inline]
#[target_feature(enable = "avx2")]
fn add(x: __m256i, y: __m256i) -> __m256i {
    _mm256_add_epi32(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(constant: u32) -> __m256i {
    _mm256_set1_epi32(constant.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const LEFT: i32, const RIGHT: i32>(x: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_slli_epi32::<LEFT>(x), _mm256_srli_epi32::<RIGHT>(x))
}

/// The same vector, of which the compiler forgets how it was made.
#[inline]
#[target_feature(enable = "avx2")]
fn settled(mut x: __m256i) -> __m256i {
    // SAFETY: there is no instruction in it, only a register that goes in and comes out.
    unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

// The four functions of RFC 1321 section 3.4, so turned that `x`, which is known last, is used last.
#[inline]
#[target_feature(enable = "avx2")]
fn f(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn g(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_andnot_si256(z, y), _mm256_and_si256(x, z))
}

#[inline]
#[target_feature(enable = "avx2")]
fn h(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(x, _mm256_xor_si256(y, z))
}

#[inline]
#[target_feature(enable = "avx2")]
fn i(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(y, _mm256_or_si256(x, _mm256_xor_si256(z, _mm256_set1_epi32(-1))))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_block(block: &Block) -> [__m256i; 2] {
    // SAFETY: a block is 64 readable bytes: two loads of 32, the second 32 bytes on. Neither asks for alignment.
    unsafe {
        [
            _mm256_loadu_si256(block.as_ptr().cast()),
            _mm256_loadu_si256(block.as_ptr().add(32).cast()),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u32; LANES]) -> __m256i {
    // SAFETY: eight words are 32 readable bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_words(words: &mut [u32; LANES], x: __m256i) {
    // SAFETY: eight words are 32 writable bytes, borrowed by us alone, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), x) }
}

/// Of four rows, words `j` and `4 + j` of each into the halves of result `j`.
#[inline]
#[target_feature(enable = "avx2")]
fn gather_words(r0: __m256i, r1: __m256i, r2: __m256i, r3: __m256i) -> [__m256i; 4] {
    let (low01, high01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
    let (low23, high23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(low01, low23),
        _mm256_unpackhi_epi64(low01, low23),
        _mm256_unpacklo_epi64(high01, high23),
        _mm256_unpackhi_epi64(high01, high23),
    ]
}

/// Eight rows of eight words turned into eight columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let [p0, p1, p2, p3] = gather_words(r0, r1, r2, r3);
    let [q0, q1, q2, q3] = gather_words(r4, r5, r6, r7);
    [
        _mm256_permute2x128_si256::<0x20>(p0, q0),
        _mm256_permute2x128_si256::<0x20>(p1, q1),
        _mm256_permute2x128_si256::<0x20>(p2, q2),
        _mm256_permute2x128_si256::<0x20>(p3, q3),
        _mm256_permute2x128_si256::<0x31>(p0, q0),
        _mm256_permute2x128_si256::<0x31>(p1, q1),
        _mm256_permute2x128_si256::<0x31>(p2, q2),
        _mm256_permute2x128_si256::<0x31>(p3, q3),
    ]
}

/// Advances every lane by as many blocks as the shortest has.
#[target_feature(enable = "avx2")]
pub(super) fn compress(state: &mut [[u32; LANES]; 4], lanes: &[&[Block]; LANES]) {
    let [sa, sb, sc, sd] = state;
    let (mut a, mut b, mut c, mut d) = (load_words(sa), load_words(sb), load_words(sc), load_words(sd));
    let [l0, l1, l2, l3, l4, l5, l6, l7] = *lanes;
    let first = l0.iter().zip(l1).zip(l2.iter().zip(l3));
    let second = l4.iter().zip(l5).zip(l6.iter().zip(l7));
    for (((r0, r1), (r2, r3)), ((r4, r5), (r6, r7))) in first.zip(second) {
        let ([x0, y0], [x1, y1], [x2, y2], [x3, y3]) = (load_block(r0), load_block(r1), load_block(r2), load_block(r3));
        let ([x4, y4], [x5, y5], [x6, y6], [x7, y7]) = (load_block(r4), load_block(r5), load_block(r6), load_block(r7));
        let [w0, w1, w2, w3, w4, w5, w6, w7] = transpose([x0, x1, x2, x3, x4, x5, x6, x7]);
        let [w8, w9, w10, w11, w12, w13, w14, w15] = transpose([y0, y1, y2, y3, y4, y5, y6, y7]);

        let before = (a, b, c, d);
        four_rounds!(a b c d; w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15);
        (a, b, c, d) = (add(a, before.0), add(b, before.1), add(c, before.2), add(d, before.3));
    }
    store_words(sa, a);
    store_words(sb, b);
    store_words(sc, c);
    store_words(sd, d);
}
