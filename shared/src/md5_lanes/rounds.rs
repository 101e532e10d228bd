//! The 64 steps of MD5 (RFC 1321 section 3.4), written once over the vector operations of whichever kernel includes them.

/// Runs the four rounds over one block of every lane: `$a`..`$d` are the state, `$w0`..`$w15` the block's words.
///
/// The including module brings `add`, `splat`, `settled`, `rotate::<LEFT, RIGHT>` and the functions `f`, `g`, `h`, `i` of RFC 1321.
macro_rules! four_rounds {
    ($a:ident $b:ident $c:ident $d:ident; $w0:ident $w1:ident $w2:ident $w3:ident $w4:ident $w5:ident $w6:ident $w7:ident
     $w8:ident $w9:ident $w10:ident $w11:ident $w12:ident $w13:ident $w14:ident $w15:ident) => {
        // Round 1.
        step!(f, $a, $b, $c, $d, $w0, 0xd76a_a478, 7);
        step!(f, $d, $a, $b, $c, $w1, 0xe8c7_b756, 12);
        step!(f, $c, $d, $a, $b, $w2, 0x2420_70db, 17);
        step!(f, $b, $c, $d, $a, $w3, 0xc1bd_ceee, 22);
        step!(f, $a, $b, $c, $d, $w4, 0xf57c_0faf, 7);
        step!(f, $d, $a, $b, $c, $w5, 0x4787_c62a, 12);
        step!(f, $c, $d, $a, $b, $w6, 0xa830_4613, 17);
        step!(f, $b, $c, $d, $a, $w7, 0xfd46_9501, 22);
        step!(f, $a, $b, $c, $d, $w8, 0x6980_98d8, 7);
        step!(f, $d, $a, $b, $c, $w9, 0x8b44_f7af, 12);
        step!(f, $c, $d, $a, $b, $w10, 0xffff_5bb1, 17);
        step!(f, $b, $c, $d, $a, $w11, 0x895c_d7be, 22);
        step!(f, $a, $b, $c, $d, $w12, 0x6b90_1122, 7);
        step!(f, $d, $a, $b, $c, $w13, 0xfd98_7193, 12);
        step!(f, $c, $d, $a, $b, $w14, 0xa679_438e, 17);
        step!(f, $b, $c, $d, $a, $w15, 0x49b4_0821, 22);
        // Round 2.
        step!(g, $a, $b, $c, $d, $w1, 0xf61e_2562, 5);
        step!(g, $d, $a, $b, $c, $w6, 0xc040_b340, 9);
        step!(g, $c, $d, $a, $b, $w11, 0x265e_5a51, 14);
        step!(g, $b, $c, $d, $a, $w0, 0xe9b6_c7aa, 20);
        step!(g, $a, $b, $c, $d, $w5, 0xd62f_105d, 5);
        step!(g, $d, $a, $b, $c, $w10, 0x0244_1453, 9);
        step!(g, $c, $d, $a, $b, $w15, 0xd8a1_e681, 14);
        step!(g, $b, $c, $d, $a, $w4, 0xe7d3_fbc8, 20);
        step!(g, $a, $b, $c, $d, $w9, 0x21e1_cde6, 5);
        step!(g, $d, $a, $b, $c, $w14, 0xc337_07d6, 9);
        step!(g, $c, $d, $a, $b, $w3, 0xf4d5_0d87, 14);
        step!(g, $b, $c, $d, $a, $w8, 0x455a_14ed, 20);
        step!(g, $a, $b, $c, $d, $w13, 0xa9e3_e905, 5);
        step!(g, $d, $a, $b, $c, $w2, 0xfcef_a3f8, 9);
        step!(g, $c, $d, $a, $b, $w7, 0x676f_02d9, 14);
        step!(g, $b, $c, $d, $a, $w12, 0x8d2a_4c8a, 20);
        // Round 3.
        step!(h, $a, $b, $c, $d, $w5, 0xfffa_3942, 4);
        step!(h, $d, $a, $b, $c, $w8, 0x8771_f681, 11);
        step!(h, $c, $d, $a, $b, $w11, 0x6d9d_6122, 16);
        step!(h, $b, $c, $d, $a, $w14, 0xfde5_380c, 23);
        step!(h, $a, $b, $c, $d, $w1, 0xa4be_ea44, 4);
        step!(h, $d, $a, $b, $c, $w4, 0x4bde_cfa9, 11);
        step!(h, $c, $d, $a, $b, $w7, 0xf6bb_4b60, 16);
        step!(h, $b, $c, $d, $a, $w10, 0xbebf_bc70, 23);
        step!(h, $a, $b, $c, $d, $w13, 0x289b_7ec6, 4);
        step!(h, $d, $a, $b, $c, $w0, 0xeaa1_27fa, 11);
        step!(h, $c, $d, $a, $b, $w3, 0xd4ef_3085, 16);
        step!(h, $b, $c, $d, $a, $w6, 0x0488_1d05, 23);
        step!(h, $a, $b, $c, $d, $w9, 0xd9d4_d039, 4);
        step!(h, $d, $a, $b, $c, $w12, 0xe6db_99e5, 11);
        step!(h, $c, $d, $a, $b, $w15, 0x1fa2_7cf8, 16);
        step!(h, $b, $c, $d, $a, $w2, 0xc4ac_5665, 23);
        // Round 4.
        step!(i, $a, $b, $c, $d, $w0, 0xf429_2244, 6);
        step!(i, $d, $a, $b, $c, $w7, 0x432a_ff97, 10);
        step!(i, $c, $d, $a, $b, $w14, 0xab94_23a7, 15);
        step!(i, $b, $c, $d, $a, $w5, 0xfc93_a039, 21);
        step!(i, $a, $b, $c, $d, $w12, 0x655b_59c3, 6);
        step!(i, $d, $a, $b, $c, $w3, 0x8f0c_cc92, 10);
        step!(i, $c, $d, $a, $b, $w10, 0xffef_f47d, 15);
        step!(i, $b, $c, $d, $a, $w1, 0x8584_5dd1, 21);
        step!(i, $a, $b, $c, $d, $w8, 0x6fa8_7e4f, 6);
        step!(i, $d, $a, $b, $c, $w15, 0xfe2c_e6e0, 10);
        step!(i, $c, $d, $a, $b, $w6, 0xa301_4314, 15);
        step!(i, $b, $c, $d, $a, $w13, 0x4e08_11a1, 21);
        step!(i, $a, $b, $c, $d, $w4, 0xf753_7e82, 6);
        step!(i, $d, $a, $b, $c, $w11, 0xbd3a_f235, 10);
        step!(i, $c, $d, $a, $b, $w2, 0x2ad7_d2bb, 15);
        step!(i, $b, $c, $d, $a, $w9, 0xeb86_d391, 21);
    };
}

/// `a = b + ((a + F(b, c, d) + word + constant) <<< left)`. Word and constant are summed behind `settled`, or the compiler
/// would add the constant last, on the chain that every step waits for.
macro_rules! step {
    ($f:ident, $a:ident, $b:ident, $c:ident, $d:ident, $word:ident, $constant:literal, $left:literal) => {
        $a = add($a, settled(add(splat($constant), $word)));
        $a = add($a, $f($b, $c, $d));
        $a = add(rotate::<$left, { 32 - $left }>($a), $b);
    };
}

pub(super) use {four_rounds, step};
