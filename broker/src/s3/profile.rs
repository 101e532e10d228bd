//! In what stores differ, as data. Measured where `tests/stores/` can start the store, documented by its maker elsewhere.

use crate::sign::Addressing;

/// A kind of store.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileName {
    /// Amazon S3.
    Aws,
    /// Ceph's RADOS Gateway.
    Ceph,
    /// Garage.
    Garage,
    /// MinIO.
    Minio,
    /// Cloudflare R2.
    R2,
    /// Backblaze B2.
    B2,
    /// Google Cloud Storage, XML API.
    Gcs,
    /// Tencent Cloud COS.
    Cos,
    /// Alibaba Cloud OSS.
    Oss,
    /// Baidu Cloud BOS.
    Bos,
    /// The store inside the broker.
    Embedded,
    /// Anything else that speaks S3.
    Generic,
}

/// What a kind of store does and does not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Profile {
    /// Which kind.
    pub name: ProfileName,
    /// How the bucket is named in URLs unless the settings say otherwise.
    pub addressing: Addressing,
    /// Whether Signature Version 2 in the query is understood.
    pub v2: bool,
    /// Whether a part's ETag is the MD5 of its bytes, so that it can be compared to what the client declared.
    pub etag_is_md5: bool,
    /// Whether a canned ACL at create takes effect.
    pub acl: bool,
    /// Whether Complete obeys `If-None-Match: *`.
    pub conditional_complete: bool,
    /// Whether all parts but the last have to be of one size.
    pub equal_parts: bool,
    /// Whether a part may have no bytes.
    pub zero_byte_part: bool,
    /// Whether a URL for one whole object can be given away: where headers `x-amz-*` that were not signed are taken and cannot
    /// be barred either, it would also copy any object there, or open it to the world.
    pub single_put: bool,
    /// What V4 URLs have to bar by themselves.
    pub barred: Barred,
    /// Most bytes of one object.
    pub max_object_size: u64,
}

/// Headers that a presigned PUT bars: it names them as signed, but not what they are. A store that leaves out of a signature
/// what it does not find in the request then finds the signature wrong as soon as one of them is there.
///
/// Only for stores that would obey such a header unsigned, and are known to leave out: others refuse it by themselves, and
/// may find a signature wrong that names a header that is not there. In byte order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Barred {
    /// For an object put whole.
    pub object: &'static [&'static str],
    /// For a part.
    pub part: &'static [&'static str],
}

/// RADOS Gateway takes whatever header it finds, signed or not: all that copy, publish, lock, encrypt, move or mark what is
/// put; the last two also under the names that it treats as `x-amz-`. (Measured on 16.2.15, whose strings name the headers.)
const BARRED_BY_CEPH: Barred = Barred {
    object: &[
        "x-account-tagging",
        "x-account-website-redirect-location",
        "x-amz-acl",
        "x-amz-copy-source",
        "x-amz-grant-full-control",
        "x-amz-grant-read",
        "x-amz-grant-read-acp",
        "x-amz-grant-write",
        "x-amz-grant-write-acp",
        "x-amz-object-lock-legal-hold",
        "x-amz-object-lock-mode",
        "x-amz-object-lock-retain-until-date",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "x-amz-tagging",
        "x-amz-website-redirect-location",
        "x-container-tagging",
        "x-container-website-redirect-location",
        "x-dho-tagging",
        "x-dho-website-redirect-location",
        "x-goog-tagging",
        "x-goog-website-redirect-location",
        "x-object-tagging",
        "x-object-website-redirect-location",
        "x-rgw-tagging",
        "x-rgw-website-redirect-location",
    ],
    part: &["x-amz-copy-source"],
};

const TIB: u64 = 1 << 40;
/// Stores that took over the limit that S3 has since December 2025: 10,000 parts of 5 GiB.
const TEN_THOUSAND_LARGEST_PARTS: u64 = 10_000 * 5 * shared::GIB;

impl Profile {
    /// The table.
    pub const fn of(name: ProfileName) -> Self {
        use Addressing::{Path, Virtual};
        let base = Self {
            name,
            addressing: Path,
            v2: false,
            etag_is_md5: false,
            acl: false,
            conditional_complete: false,
            equal_parts: false,
            zero_byte_part: true,
            single_put: false,
            barred: Barred { object: &[], part: &[] },
            max_object_size: 5 * TIB,
        };
        match name {
            // Buckets encrypted with KMS have other ETags: the comparison applies to those that look like an MD5 only when
            // the store says they are one, so it stays off here; the signed Content-MD5 protects the part on arrival.
            ProfileName::Aws => Self {
                addressing: Virtual,
                acl: true,
                conditional_complete: true,
                single_put: true,
                max_object_size: TEN_THOUSAND_LARGEST_PARTS,
                ..base
            },
            ProfileName::Ceph => Self {
                v2: true,
                etag_is_md5: true,
                acl: true,
                single_put: true,
                barred: BARRED_BY_CEPH,
                ..base
            },
            ProfileName::Embedded => Self {
                conditional_complete: true,
                v2: true,
                etag_is_md5: true,
                acl: true,
                single_put: true,
                ..base
            },
            ProfileName::Garage => Self {
                etag_is_md5: true,
                single_put: true,
                zero_byte_part: false,
                ..base
            },
            ProfileName::Minio => Self { v2: true, ..base },
            ProfileName::R2 => Self {
                etag_is_md5: true,
                equal_parts: true,
                ..base
            },
            ProfileName::B2 => Self {
                max_object_size: 10 * TIB,
                ..base
            },
            ProfileName::Cos | ProfileName::Oss | ProfileName::Bos => Self {
                addressing: Virtual,
                acl: true,
                ..base
            },
            ProfileName::Gcs | ProfileName::Generic => Self {
                v2: true,
                acl: true,
                ..base
            },
        }
    }

    /// The kind of store at this host, as far as its name tells.
    pub fn guess(host: &str) -> ProfileName {
        let known = [
            (".amazonaws.com", ProfileName::Aws),
            (".amazonaws.com.cn", ProfileName::Aws),
            (".r2.cloudflarestorage.com", ProfileName::R2),
            (".backblazeb2.com", ProfileName::B2),
            ("storage.googleapis.com", ProfileName::Gcs),
            (".myqcloud.com", ProfileName::Cos),
            (".aliyuncs.com", ProfileName::Oss),
            (".bcebos.com", ProfileName::Bos),
        ];
        let host = host.rsplit_once(':').map_or(host, |(host, _port)| host);
        known
            .iter()
            .find(|(suffix, _)| host.ends_with(suffix))
            .map_or(ProfileName::Generic, |(_, name)| *name)
    }
}
