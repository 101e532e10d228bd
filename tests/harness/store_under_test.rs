//! The store that a suite runs against: embedded, or one that a script started beside it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use broker::s3::ProfileName;
use store::DevStore;

/// Which store it is; what the suites may expect of it follows from that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreKind {
    /// Ours, in this process.
    Embedded,
    /// Garage, by `tests/stores/garage.sh`.
    Garage,
    /// Ceph RGW, by `tests/stores/ceph-rgw.sh`.
    Ceph,
}

impl StoreKind {
    /// As the broker's settings and `STORE_PROFILE` name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Garage => "garage",
            Self::Ceph => "ceph",
        }
    }

    /// The broker's profile for it.
    pub const fn profile(self) -> ProfileName {
        match self {
            Self::Embedded => ProfileName::Embedded,
            Self::Garage => ProfileName::Garage,
            Self::Ceph => ProfileName::Ceph,
        }
    }

    /// Whether it verifies SigV2: known from the stores' own documentation, not from the profiles that are under test.
    pub const fn has_v2(self) -> bool {
        match self {
            Self::Embedded | Self::Ceph => true,
            Self::Garage => false,
        }
    }

    /// Whether a canned ACL has an effect: Garage takes and ignores it.
    pub const fn has_acls(self) -> bool {
        match self {
            Self::Embedded | Self::Ceph => true,
            Self::Garage => false,
        }
    }
}

/// One store, and how to reach it.
#[derive(Debug)]
pub struct StoreUnderTest {
    /// Which it is.
    pub kind: StoreKind,
    /// `http://ADDRESS:PORT`
    pub endpoint: String,
    /// The region that signatures name.
    pub region: String,
    /// The bucket that uploads go to.
    pub bucket: String,
    /// Names the key that may do everything.
    pub access_key_id: String,
    /// The key itself: made up for the tests, of no use anywhere else.
    pub secret_access_key: String,
    embedded: Option<DevStore>,
}

impl StoreUnderTest {
    /// The embedded store as it is by default.
    pub async fn embedded() -> Self {
        Self::around(DevStore::start().await.unwrap())
    }

    fn around(store: DevStore) -> Self {
        Self {
            kind: StoreKind::Embedded,
            endpoint: store.endpoint(),
            region: store.region().to_owned(),
            bucket: store.bucket().to_owned(),
            access_key_id: store.credentials().access_key_id.clone(),
            secret_access_key: store.credentials().secret_access_key.clone(),
            embedded: Some(store),
        }
    }

    /// The store that `AWS_ENDPOINT_URL_S3` and `STORE_PROFILE` name, as tests/stores/with.sh sets them; without those, an
    /// embedded one that takes parts of any size, as the others have been told to.
    pub async fn from_environment() -> Self {
        let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_S3") else {
            return Self::around(DevStore::start_with(|config| config.min_part_size = 1).await.unwrap());
        };
        let set =
            |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("AWS_ENDPOINT_URL_S3 is set, {name} is not"));
        let kind = match set("STORE_PROFILE").as_str() {
            "garage" => StoreKind::Garage,
            "ceph" => StoreKind::Ceph,
            other => panic!("STORE_PROFILE={other}: garage and ceph are known"),
        };
        Self {
            kind,
            endpoint,
            region: set("AWS_REGION"),
            bucket: set("S3_BUCKET"),
            access_key_id: set("AWS_ACCESS_KEY_ID"),
            secret_access_key: set("AWS_SECRET_ACCESS_KEY"),
            embedded: None,
        }
    }

    /// The embedded store, to inject faults into and to count attempts at.
    pub fn faulty(&self) -> &DevStore {
        self.embedded
            .as_ref()
            .expect("only the embedded store can be told to fail")
    }

    /// How an AWS tool, or the broker, in another process reaches it.
    pub fn environment(&self) -> BTreeMap<&'static str, OsString> {
        let settings = [
            ("AWS_ENDPOINT_URL_S3", &self.endpoint),
            ("AWS_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", &self.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
        ];
        settings.into_iter().map(|(name, value)| (name, value.into())).collect()
    }
}
