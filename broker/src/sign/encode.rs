//! Percent-encoding as the signature specifications want it, and hexadecimal digits.

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `text` with every byte escaped but the unreserved ones of RFC 3986 section 2.3: S3's `UriEncode`.
pub(super) fn query(text: &str, out: &mut String) {
    escape(text, false, out);
}

/// As [`query()`], but `/` stands for itself: an object key in a path.
pub(super) fn path(text: &str, out: &mut String) {
    escape(text, true, out);
}

fn escape(text: &str, keep_slash: bool, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            b'/' if keep_slash => out.push('/'),
            _ => {
                out.push('%');
                out.push(upper(byte >> 4).into());
                out.push(upper(byte).into());
            }
        }
    }
}

fn upper(nibble: u8) -> u8 {
    HEX_UPPER.get(usize::from(nibble & 15)).copied().unwrap_or(b'0')
}

/// 32 bytes as 64 lower-case hexadecimal digits. Arithmetic, not a table: it compiles to vector instructions.
#[inline]
pub(super) fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    let mut out = [0; 64];
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    out
}
