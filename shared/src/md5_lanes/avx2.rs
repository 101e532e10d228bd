//! Sixteen MD5 states at once, one to each 32-bit lane of pairs of AVX2 registers: every step waits for the one before it, and
//! while those of one register wait, those of the other are done.

use core::arch::asm;
use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::Block;
use super::rounds::{four_rounds, step};

/// Streams hashed together.
pub(super) const LANES: usize = 16;

/// A word of each stream.
type Pair = [__m256i; 2];

#[inline]
#[target_feature(enable = "avx2")]
fn add([x0, x1]: Pair, [y0, y1]: Pair) -> Pair {
    [_mm256_add_epi32(x0, y0), _mm256_add_epi32(x1, y1)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(constant: u32) -> Pair {
    [_mm256_set1_epi32(constant.cast_signed()); 2]
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const LEFT: i32, const RIGHT: i32>([x0, x1]: Pair) -> Pair {
    [
        _mm256_or_si256(_mm256_slli_epi32::<LEFT>(x0), _mm256_srli_epi32::<RIGHT>(x0)),
        _mm256_or_si256(_mm256_slli_epi32::<LEFT>(x1), _mm256_srli_epi32::<RIGHT>(x1)),
    ]
}

/// The same vectors, of which the compiler forgets how they were made.
#[inline]
#[target_feature(enable = "avx2")]
fn settled([mut x0, mut x1]: Pair) -> Pair {
    // SAFETY: there is no instruction in it, only registers that go in and come out.
    unsafe {
        asm!("/* {0} {1} */", inout(ymm_reg) x0, inout(ymm_reg) x1, options(pure, nomem, nostack, preserves_flags));
    }
    [x0, x1]
}

// The four functions of RFC 1321 section 3.4, so turned that `x`, which is known last, is used last.
#[inline]
#[target_feature(enable = "avx2")]
fn f([x0, x1]: Pair, [y0, y1]: Pair, [z0, z1]: Pair) -> Pair {
    [
        _mm256_xor_si256(z0, _mm256_and_si256(x0, _mm256_xor_si256(y0, z0))),
        _mm256_xor_si256(z1, _mm256_and_si256(x1, _mm256_xor_si256(y1, z1))),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn g([x0, x1]: Pair, [y0, y1]: Pair, [z0, z1]: Pair) -> Pair {
    [
        _mm256_or_si256(_mm256_andnot_si256(z0, y0), _mm256_and_si256(x0, z0)),
        _mm256_or_si256(_mm256_andnot_si256(z1, y1), _mm256_and_si256(x1, z1)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn h([x0, x1]: Pair, [y0, y1]: Pair, [z0, z1]: Pair) -> Pair {
    [
        _mm256_xor_si256(x0, _mm256_xor_si256(y0, z0)),
        _mm256_xor_si256(x1, _mm256_xor_si256(y1, z1)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn i([x0, x1]: Pair, [y0, y1]: Pair, [z0, z1]: Pair) -> Pair {
    let ones = _mm256_set1_epi32(-1);
    [
        _mm256_xor_si256(y0, _mm256_or_si256(x0, _mm256_xor_si256(z0, ones))),
        _mm256_xor_si256(y1, _mm256_or_si256(x1, _mm256_xor_si256(z1, ones))),
    ]
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
fn load_words(words: &[u32; LANES]) -> Pair {
    // SAFETY: sixteen words are 64 readable bytes: two loads of 32, the second eight words on. Neither asks for alignment.
    unsafe {
        [
            _mm256_loadu_si256(words.as_ptr().cast()),
            _mm256_loadu_si256(words.as_ptr().add(8).cast()),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_words(words: &mut [u32; LANES], [x0, x1]: Pair) {
    // SAFETY: sixteen words are 64 writable bytes, borrowed by us alone: two stores of 32, the second eight words on, and
    // neither asks for alignment.
    unsafe {
        _mm256_storeu_si256(words.as_mut_ptr().cast(), x0);
        _mm256_storeu_si256(words.as_mut_ptr().add(8).cast(), x1);
    }
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

/// The words of eight blocks: word `w` of each in result `w`.
#[inline]
#[target_feature(enable = "avx2")]
fn words(blocks: [&Block; 8]) -> [__m256i; 16] {
    let [b0, b1, b2, b3, b4, b5, b6, b7] = blocks;
    let ([x0, y0], [x1, y1], [x2, y2], [x3, y3]) = (load_block(b0), load_block(b1), load_block(b2), load_block(b3));
    let ([x4, y4], [x5, y5], [x6, y6], [x7, y7]) = (load_block(b4), load_block(b5), load_block(b6), load_block(b7));
    let [w0, w1, w2, w3, w4, w5, w6, w7] = transpose([x0, x1, x2, x3, x4, x5, x6, x7]);
    let [w8, w9, w10, w11, w12, w13, w14, w15] = transpose([y0, y1, y2, y3, y4, y5, y6, y7]);
    [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
}

/// Advances every lane by as many blocks as the shortest has.
#[target_feature(enable = "avx2")]
pub(super) fn compress(state: &mut [[u32; LANES]; 4], lanes: &[&[Block]; LANES]) {
    let [sa, sb, sc, sd] = state;
    let (mut a, mut b, mut c, mut d) = (load_words(sa), load_words(sb), load_words(sc), load_words(sd));
    let [l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15] = *lanes;
    let first = l0.iter().zip(l1).zip(l2.iter().zip(l3));
    let second = l4.iter().zip(l5).zip(l6.iter().zip(l7));
    let third = l8.iter().zip(l9).zip(l10.iter().zip(l11));
    let fourth = l12.iter().zip(l13).zip(l14.iter().zip(l15));
    for ((first, second), (third, fourth)) in first.zip(second).zip(third.zip(fourth)) {
        let (((r0, r1), (r2, r3)), ((r4, r5), (r6, r7))) = (first, second);
        let (((r8, r9), (r10, r11)), ((r12, r13), (r14, r15))) = (third, fourth);
        let [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15] =
            words([r0, r1, r2, r3, r4, r5, r6, r7]);
        let [y0, y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15] =
            words([r8, r9, r10, r11, r12, r13, r14, r15]);
        let (w0, w1, w2, w3) = ([x0, y0], [x1, y1], [x2, y2], [x3, y3]);
        let (w4, w5, w6, w7) = ([x4, y4], [x5, y5], [x6, y6], [x7, y7]);
        let (w8, w9, w10, w11) = ([x8, y8], [x9, y9], [x10, y10], [x11, y11]);
        let (w12, w13, w14, w15) = ([x12, y12], [x13, y13], [x14, y14], [x15, y15]);

        let before = (a, b, c, d);
        four_rounds!(a b c d; w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15);
        (a, b, c, d) = (add(a, before.0), add(b, before.1), add(c, before.2), add(d, before.3));
    }
    store_words(sa, a);
    store_words(sb, b);
    store_words(sc, c);
    store_words(sd, d);
}
