//! Additional checksums (S3 User Guide, "Checking object integrity"): which there are, and what the parts' make together.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, checksum_combine};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::Checksum;
use serde::{Deserialize, Serialize};

use super::record::{Checksums, Part};

/// What computes one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// What an object's checksum is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChecksumKind {
    /// Of all its bytes.
    FullObject,
    /// Of the parts' checksums; told with their number behind a dash.
    Composite,
}

/// The checksum that an upload was created for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub(crate) struct PlannedChecksum {
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: ChecksumKind,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// The header that carries its values, and the name under which records keep them.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// As S3 names it in XML and in `x-amz-checksum-algorithm`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The one of this name, in capitals or not.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Its value among the computed ones.
    pub(crate) fn computed(self, all: &Checksum) -> Option<&String> {
        match self {
            Self::Crc32 => all.checksum_crc32.as_ref(),
            Self::Crc32c => all.checksum_crc32c.as_ref(),
            Self::Crc64Nvme => all.checksum_crc64nvme.as_ref(),
            Self::Sha1 => all.checksum_sha1.as_ref(),
            Self::Sha256 => all.checksum_sha256.as_ref(),
        }
    }

    /// Whether a value is of the form that its values have: base64 of so many bytes.
    pub(crate) fn could_be(self, value: &str) -> bool {
        let length = match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        };
        BASE64.decode(value).is_ok_and(|bytes| bytes.len() == length)
    }

    /// How it is combined, if it can be.
    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

/// Those that a record has values of.
pub(crate) fn recorded(checksums: &Checksums) -> Vec<Algorithm> {
    let all = Algorithm::ALL.into_iter();
    all.filter(|algorithm| checksums.contains_key(algorithm.header()))
        .collect()
}

/// What computes all of these in one pass.
pub(crate) fn hasher(algorithms: &[Algorithm]) -> ChecksumHasher {
    let wants = |algorithm| algorithms.contains(&algorithm);
    ChecksumHasher {
        crc32: wants(Algorithm::Crc32).then(Crc32::new),
        crc32c: wants(Algorithm::Crc32c).then(Crc32c::new),
        crc64nvme: wants(Algorithm::Crc64Nvme).then(Crc64Nvme::new),
        sha1: wants(Algorithm::Sha1).then(Sha1::new),
        sha256: wants(Algorithm::Sha256).then(Sha256::new),
    }
}

impl PlannedChecksum {
    /// What an upload may be created for: sums that can be combined are of all bytes if it is asked for, CRC-64/NVME is
    /// never otherwise, and SHA never is.
    pub(crate) fn new(algorithm: Algorithm, kind: Option<ChecksumKind>) -> Option<Self> {
        let kind = match (algorithm, kind) {
            (Algorithm::Crc64Nvme, Some(ChecksumKind::Composite))
            | (Algorithm::Sha1 | Algorithm::Sha256, Some(ChecksumKind::FullObject)) => return None,
            (Algorithm::Crc64Nvme, None) => ChecksumKind::FullObject,
            (_, None) => ChecksumKind::Composite,
            (_, Some(kind)) => kind,
        };
        Some(Self { algorithm, kind })
    }

    /// The object's checksum, made of its parts'; nothing if one of them has none.
    pub(crate) fn of_object(self, parts: &[Part]) -> Option<String> {
        let values = parts.iter().map(|part| BASE64.decode(part.checksum.as_ref()?).ok());
        let values = values.collect::<Option<Vec<_>>>()?;
        match self.kind {
            ChecksumKind::Composite => {
                let mut all = hasher(&[self.algorithm]);
                all.update(&values.concat());
                let value = all.finalize();
                Some(format!("{}-{}", self.algorithm.computed(&value)?, parts.len()))
            }
            ChecksumKind::FullObject => {
                let crc = self.algorithm.crc()?;
                let length = values.first()?.len();
                let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
                let mut sums = values.iter().map(|value| number(value)).zip(parts);
                let (first, _) = sums.next()?;
                let sum = sums.fold(first, |sum, (next, part)| checksum_combine(crc, sum, next, part.size));
                let bytes = sum.to_be_bytes();
                Some(BASE64.encode(bytes.get(bytes.len().checked_sub(length)?..)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use shared::{Md5Digest, PartNumber};

    use super::*;

    fn sum(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = hasher(&[algorithm]);
        hasher.update(bytes);
        algorithm.computed(&hasher.finalize()).unwrap().clone()
    }

    fn parts(algorithm: Algorithm, pieces: &[&[u8]]) -> Vec<Part> {
        let part = |(number, bytes): (u64, &&[u8])| Part {
            number: PartNumber::try_from(number).unwrap(),
            seq: number,
            md5: Md5Digest::from_bytes(Md5::digest(bytes).into()),
            size: bytes.len() as u64,
            checksum: Some(sum(algorithm, bytes)),
        };
        (1..).zip(pieces).map(part).collect()
    }

    #[test]
    fn the_checksum_of_a_whole_object_is_made_of_its_parts_without_its_bytes() {
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let planned = PlannedChecksum::new(algorithm, Some(ChecksumKind::FullObject)).unwrap();
            for pieces in [vec![&b"one"[..]], vec![b"one, ", b"", b"two and ", b"three"]] {
                let whole = sum(algorithm, &pieces.concat());
                assert_eq!(
                    planned.of_object(&parts(algorithm, &pieces)),
                    Some(whole),
                    "{algorithm:?}"
                );
            }
        }
    }

    #[test]
    fn a_composite_checksum_is_the_one_of_the_parts_checksums_and_their_number() {
        let planned = PlannedChecksum::new(Algorithm::Sha256, None).unwrap();
        let pieces = [&b"one"[..], b"two"];
        let raw = pieces
            .map(|piece| BASE64.decode(sum(Algorithm::Sha256, piece)).unwrap())
            .concat();
        let expected = format!("{}-2", sum(Algorithm::Sha256, &raw));
        assert_eq!(planned.of_object(&parts(Algorithm::Sha256, &pieces)), Some(expected));
    }

    #[test]
    fn what_cannot_be_combined_is_not_promised_for_the_whole_object() {
        assert!(PlannedChecksum::new(Algorithm::Sha1, Some(ChecksumKind::FullObject)).is_none());
        assert!(PlannedChecksum::new(Algorithm::Crc64Nvme, Some(ChecksumKind::Composite)).is_none());
    }
}
