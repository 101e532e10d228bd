//! A store and a broker on free ports, in one line.

use std::net::SocketAddr;

use broker::Running;
use broker::config::{Secret, Settings};
use broker::deliver::{Delivered, deliver_once};
use broker::ledger::Ledger;
use broker::s3::Clock;
use broker::sign::SignatureVersion;
use broker::sweep::{Swept, sweep_once};
use tempfile::TempDir;

use crate::{Api, Bucket, StoreUnderTest, sha256_hex};

/// What a test talks to. Everything in it ends when it is dropped.
pub struct Stack {
    /// The store.
    pub store: StoreUnderTest,
    /// What is really in the store.
    pub bucket: Bucket,
    /// The broker.
    pub broker: Broker,
    /// Requests to the broker, without a token.
    pub api: Api,
    settings: Settings,
    data: TempDir,
}

/// A second broker on the ledger and the store of a [`Stack`].
pub struct Beside {
    /// Requests to it.
    pub api: Api,
    /// It.
    pub broker: Broker,
    _data: TempDir,
}

/// A broker in this process.
pub struct Broker {
    running: Running,
}

impl Broker {
    async fn start(settings: &Settings) -> Self {
        let config = settings.clone().resolve().unwrap();
        Self {
            running: Box::pin(broker::start(config)).await.unwrap(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// `http://ADDRESS:PORT`
    pub fn base(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Requests to its operator's address, where it has one.
    pub fn admin(&self) -> Api {
        Api::at(format!("http://{}", self.running.admin_address().unwrap()))
    }

    /// Its certificate, to have it looked at now.
    pub fn certificate(&self) -> &broker::edge::tls::Certificate {
        self.running.certificate().unwrap()
    }

    /// Its ledger, to bring about what only a crash would.
    pub fn ledger(&self) -> &Ledger {
        &self.running.state().ledger
    }

    /// What a round of its sweeper does now.
    pub async fn sweep(&self) -> Swept {
        sweep_once(self.running.state()).await.unwrap()
    }

    /// What sending its webhooks does now.
    pub async fn deliver(&self) -> Delivered {
        deliver_once(self.running.state()).await.unwrap()
    }

    /// What its requests share.
    pub fn state(&self) -> &broker::app::Shared {
        self.running.state()
    }

    /// Its clock, to move ahead.
    pub fn clock(&self) -> &Clock {
        &self.running.state().clock
    }
}

impl Stack {
    /// The embedded store as it is by default, and a broker that serves without tokens.
    pub async fn start() -> Self {
        Self::on(StoreUnderTest::embedded().await).await
    }

    /// The same with these tokens, each a principal's name and the token itself.
    pub async fn with_tokens(tokens: &[(&str, &str)]) -> Self {
        let list = tokens
            .iter()
            .map(|(name, token)| format!("{name}={}", sha256_hex(token)));
        let tokens = Some(list.collect::<Vec<_>>().join(","));
        Self::with(
            StoreUnderTest::embedded().await,
            Settings {
                tokens,
                ..Settings::default()
            },
        )
        .await
    }

    /// The same with a broker that lets everybody see the whole bucket.
    pub async fn with_downloads() -> Self {
        let settings = Settings {
            downloads: Some(true),
            ..Settings::default()
        };
        Self::with(StoreUnderTest::embedded().await, settings).await
    }

    /// A broker before the store that the environment names, or the embedded one; both take parts of any size.
    pub async fn on_store_under_test() -> Self {
        Self::on(StoreUnderTest::from_environment().await).await
    }

    /// A broker before this store.
    pub async fn on(store: StoreUnderTest) -> Self {
        Self::with(store, Settings::default()).await
    }

    /// A broker before this store with these settings, but for where it listens and where the store is. A profile among
    /// them is taken in place of the store's own.
    pub async fn with(store: StoreUnderTest, settings: Settings) -> Self {
        let data = tempfile::tempdir().unwrap();
        let settings = Settings {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            data_dir: Some(data.path().to_owned()),
            bucket: Some(store.bucket.clone()),
            endpoint: Some(store.endpoint.clone()),
            region: Some(store.region.clone()),
            profile: Some(settings.profile.unwrap_or_else(|| store.kind.profile())),
            access_key_id: Some(store.access_key_id.clone()),
            secret_access_key: Some(Secret(store.secret_access_key.clone())),
            ..settings
        };
        let broker = Broker::start(&settings).await;
        let api = Api::at(broker.base());
        let bucket = Bucket::of(&store);
        Self {
            store,
            bucket,
            broker,
            api,
            settings,
            data,
        }
    }

    /// Another broker on the same ledger and store, beside this one, as a client reaches it.
    pub async fn beside(&self) -> Beside {
        let data = tempfile::tempdir().unwrap();
        let settings = Settings {
            data_dir: Some(data.path().to_owned()),
            ..self.settings.clone()
        };
        let broker = Broker::start(&settings).await;
        Beside {
            api: Api::at(broker.base()),
            broker,
            _data: data,
        }
    }

    /// The same ledger and store behind a new broker with these settings.
    async fn again(self, settings: Settings) -> Self {
        let Self {
            store,
            bucket,
            broker,
            data,
            ..
        } = self;
        broker.running.stop().await;
        let broker = Broker::start(&settings).await;
        let api = Api::at(broker.base());
        Self {
            store,
            bucket,
            broker,
            api,
            settings,
            data,
        }
    }

    /// The same ledger and store behind a new broker.
    pub async fn with_broker_restarted(self) -> Self {
        let settings = self.settings.clone();
        self.again(settings).await
    }

    /// The same behind a broker that signs in this version.
    pub async fn with_signature(self, version: SignatureVersion) -> Self {
        let settings = self.settings_with_signature(version);
        self.again(settings).await
    }

    /// The broker's settings, but for the version it signs in.
    pub fn settings_with_signature(&self, version: SignatureVersion) -> Settings {
        Settings {
            signature: Some(version),
            ..self.settings.clone()
        }
    }

    /// Where the broker keeps its ledger.
    pub fn data_dir(&self) -> &std::path::Path {
        self.data.path()
    }
}
