//! Sixteen MD5 states at once, one to each 32-bit lane of AVX-512 registers.

use core::arch::asm;
use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_shuffle_i32x4,
    _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::Block;
use super::rounds::{four_rounds, step};

/// Streams hashed together.
pub(super) const LANES: usize = 16;

#[inline]
#[target_feature(enable = "avx512f")]
fn add(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi32(x, y)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(constant: u32) -> __m512i {
    _mm512_set1_epi32(constant.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const LEFT: i32, const RIGHT: i32>(x: __m512i) -> __m512i {
    _mm512_rol_epi32::<LEFT>(x)
}

/// The same vector, of which the compiler forgets how it was made.
#[inline]
#[target_feature(enable = "avx512f")]
fn settled(mut x: __m512i) -> __m512i {
    // SAFETY: there is no instruction in it, only a register that goes in and comes out.
    unsafe { asm!("/* {0} */", inout(zmm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

// The four functions of RFC 1321 section 3.4. The immediate is the truth table read down from x = y = z = 1.
#[inline]
#[target_feature(enable = "avx512f")]
fn f(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1100_1010>(x, y, z) // x ? y : z
}

#[inline]
#[target_feature(enable = "avx512f")]
fn g(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1110_0100>(x, y, z) // z ? x : y
}

#[inline]
#[target_feature(enable = "avx512f")]
fn h(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1001_0110>(x, y, z) // x ^ y ^ z
}

#[inline]
#[target_feature(enable = "avx512f")]
fn i(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b0011_1001>(x, y, z) // y ^ (x | !z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_block(block: &Block) -> __m512i {
    // SAFETY: a block is 64 readable bytes, as many as the load takes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u32; LANES]) -> __m512i {
    // SAFETY: sixteen words are 64 readable bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_words(words: &mut [u32; LANES], x: __m512i) {
    // SAFETY: sixteen words are 64 writable bytes, borrowed by us alone, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), x) }
}

/// Of four rows, word `4 q + j` of each into quarter `q` of result `j`.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather_words(rows: [__m512i; 4]) -> [__m512i; 4] {
    let [r0, r1, r2, r3] = rows;
    let (low01, high01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
    let (low23, high23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
    [
        _mm512_unpacklo_epi64(low01, low23),
        _mm512_unpackhi_epi64(low01, low23),
        _mm512_unpacklo_epi64(high01, high23),
        _mm512_unpackhi_epi64(high01, high23),
    ]
}

/// Quarter `q` of each of the four into result `q`.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather_quarters(x0: __m512i, x1: __m512i, x2: __m512i, x3: __m512i) -> [__m512i; 4] {
    let (even01, odd01) = (
        _mm512_shuffle_i32x4::<0x88>(x0, x1),
        _mm512_shuffle_i32x4::<0xdd>(x0, x1),
    );
    let (even23, odd23) = (
        _mm512_shuffle_i32x4::<0x88>(x2, x3),
        _mm512_shuffle_i32x4::<0xdd>(x2, x3),
    );
    [
        _mm512_shuffle_i32x4::<0x88>(even01, even23),
        _mm512_shuffle_i32x4::<0x88>(odd01, odd23),
        _mm512_shuffle_i32x4::<0xdd>(even01, even23),
        _mm512_shuffle_i32x4::<0xdd>(odd01, odd23),
    ]
}

/// Advances every lane by as many blocks as the shortest has.
#[target_feature(enable = "avx512f")]
pub(super) fn compress(state: &mut [[u32; LANES]; 4], lanes: &[&[Block]; LANES]) {
    let [sa, sb, sc, sd] = state;
    let (mut a, mut b, mut c, mut d) = (load_words(sa), load_words(sb), load_words(sc), load_words(sd));
    let [l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15] = *lanes;
    let first = l0.iter().zip(l1).zip(l2.iter().zip(l3));
    let second = l4.iter().zip(l5).zip(l6.iter().zip(l7));
    let third = l8.iter().zip(l9).zip(l10.iter().zip(l11));
    let fourth = l12.iter().zip(l13).zip(l14.iter().zip(l15));
    for ((first, second), (third, fourth)) in first.zip(second).zip(third.zip(fourth)) {
        let rows = |((r0, r1), (r2, r3)): ((&Block, &Block), (&Block, &Block))| {
            gather_words([load_block(r0), load_block(r1), load_block(r2), load_block(r3)])
        };
        let ([p0, p1, p2, p3], [q0, q1, q2, q3]) = (rows(first), rows(second));
        let ([r0, r1, r2, r3], [s0, s1, s2, s3]) = (rows(third), rows(fourth));
        let [w0, w4, w8, w12] = gather_quarters(p0, q0, r0, s0);
        let [w1, w5, w9, w13] = gather_quarters(p1, q1, r1, s1);
        let [w2, w6, w10, w14] = gather_quarters(p2, q2, r2, s2);
        let [w3, w7, w11, w15] = gather_quarters(p3, q3, r3, s3);

        let before = (a, b, c, d);
        four_rounds!(a b c d; w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15);
        (a, b, c, d) = (add(a, before.0), add(b, before.1), add(c, before.2), add(d, before.3));
    }
    store_words(sa, a);
    store_words(sb, b);
    store_words(sc, c);
    store_words(sd, d);
}
