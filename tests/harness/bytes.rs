//! Bytes to send, and what they hash to.

use md5::{Digest as _, Md5};
use sha2::Sha256;
use shared::Md5Digest;

/// `len` bytes that no store can deduplicate or compress.
pub fn random_bytes(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// `len` bytes that are cheap, the same every time, and different at every place of a part.
pub fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|place| (place % 251) as u8).collect()
}

/// `bytes` cut into parts of `part_size`, the last one as long as it comes.
pub fn cut(bytes: &[u8], part_size: u64) -> std::slice::Chunks<'_, u8> {
    bytes.chunks(usize::try_from(part_size).unwrap())
}

/// MD5 of `bytes`.
pub fn md5(bytes: &[u8]) -> Md5Digest {
    Md5Digest::from_bytes(Md5::digest(bytes).into())
}

/// The ETag that S3 gives to an object of these parts: MD5 of their MD5s, and how many there are.
pub fn multipart_etag<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let (mut joined, mut count) = (Md5::new(), 0);
    for part in parts {
        joined.update(Md5::digest(part));
        count += 1;
    }
    format!("{}-{count}", Md5Digest::from_bytes(joined.finalize().into()).to_hex())
}

/// SHA-256 in hexadecimal, as token settings have it.
pub fn sha256_hex(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// `name` under a prefix that no other test, now or in an earlier run, has used.
pub fn unique(name: &str) -> String {
    let prefix = Md5Digest::from_bytes(random_bytes(16).try_into().unwrap()).to_hex();
    format!("{prefix}/{name}")
}
