//! Runs one history: two brokers with one ledger and one clock, before one store; then heals both, and looks at what is left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::app::Shared;
use broker::complete::{Asker, complete_here};
use broker::config::{Secret, Settings};
use broker::give_up;
use broker::ledger::Session;
use broker::random::Random;
use broker::s3::{Clock, ProfileName};
use broker::start::open_with;
use broker::sweep::sweep_once;
use store::fault::{complete, head};
use store::{DevStore, Fault, Garbled};
use tempfile::TempDir;
use tests::{Bucket, StoreUnderTest};

use crate::client::client;
use crate::history::{Call, Operation, Scenario};
use crate::ledger::Outside;
use crate::model::{FOREIGN, Upload};

/// Of an upload.
pub(crate) const LIFE: Duration = Duration::from_hours(2);
/// What runs share: a store, and clients of it.
pub(crate) struct World {
    store: StoreUnderTest,
    pub(crate) bucket: Bucket,
    pub(crate) http: reqwest::Client,
    runs: AtomicU64,
}

/// One run.
pub(crate) struct Run<'a> {
    pub(crate) world: &'a World,
    /// Which run of its world it is: its keys begin with that.
    pub(crate) number: u64,
    pub(crate) brokers: [Shared; 2],
    pub(crate) ledger: Outside,
    pub(crate) clock: Clock,
    pub(crate) scenario: &'a Scenario,
    seed: u64,
    pub(crate) uploads: Vec<Upload>,
    /// Uploads in the ledger of which no client was told.
    pub(crate) unheard: i64,
    /// Whether something happened after which the store may hold an upload that no ledger knows.
    pub(crate) orphans: bool,
    /// Requests that had arrived at the store before.
    pub(crate) began_at: u64,
    /// Requests that may arrive by now for what was asked of clients, brokers and sweepers, and by this itself.
    pub(crate) allowed: u64,
    _ledger: TempDir,
}

pub(crate) type Outcome = Result<(), String>;

impl World {
    pub(crate) async fn start() -> Self {
        let store = StoreUnderTest::from_environment().await;
        Self {
            bucket: Bucket::of(&store),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            store,
            runs: AtomicU64::new(0),
        }
    }

    pub(crate) fn store(&self) -> &DevStore {
        self.store.faulty()
    }

    /// Runs a history; what is wrong, if anything is.
    pub(crate) async fn run(&self, seed: u64, scenario: &Scenario) -> Outcome {
        let store = self.store();
        store.clear_faults();
        store.pages_of(scenario.page);
        let mut run = Run::begin(self, seed, scenario).await;
        run.set_up().await?;
        run.storm();
        for operation in &scenario.operations {
            run.operation(operation).await?;
        }
        store.clear_faults();
        run.ledger.mend().await;
        run.persist().await?;
        run.end().await
    }
}

impl<'a> Run<'a> {
    pub(crate) async fn begin(world: &'a World, seed: u64, scenario: &'a Scenario) -> Self {
        // In memory where there is such a place: a commit waits for the disk.
        let memory = std::path::Path::new("/dev/shm");
        let ledger = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let store = &world.store;
        let settings = Settings {
            data_dir: Some(ledger.path().to_owned()),
            bucket: Some(store.bucket.clone()),
            endpoint: Some(store.endpoint.clone()),
            region: Some(store.region.clone()),
            profile: Some(if scenario.etags_are_md5s {
                ProfileName::Embedded
            } else {
                ProfileName::Generic
            }),
            access_key_id: Some(store.access_key_id.clone()),
            secret_access_key: Some(Secret(store.secret_access_key.clone())),
            upload_expires_in: Some(LIFE.as_secs()),
            // Keys that nobody else's can be: whole files are then looked for by listing where that can be.
            key_template: Some("{principal}/{name}".into()),
            ..Settings::default()
        };
        let (config, clock, random) = (settings.resolve().unwrap(), Clock::jumping(), Random::seeded(seed));
        let open = || open_with(&config, clock.clone(), random.clone());
        let brokers = [open().await.unwrap(), open().await.unwrap()];
        Self {
            world,
            brokers,
            ledger: Outside::of(&ledger.path().join("ledger.db")).await,
            clock,
            number: world.runs.fetch_add(1, Ordering::Relaxed),
            scenario,
            seed,
            uploads: Vec::new(),
            unheard: 0,
            orphans: scenario.storm > 0,
            began_at: world.store().requests(),
            allowed: 0,
            _ledger: ledger,
        }
    }

    pub(crate) fn store(&self) -> &'a DevStore {
        self.world.store()
    }

    pub(crate) fn storm(&self) {
        let garbled = |answer| [true, false].map(|done| Fault::Garbled { answer, done });
        let mut faults = vec![
            Fault::CutConnection,
            Fault::CutAfterEffect,
            Fault::SlowDown { retry_after: None },
            Fault::InternalError,
        ];
        faults.extend(garbled(Garbled::SpaceBefore));
        if self.scenario.storm > 0 {
            self.store().storm(self.seed, self.scenario.storm, &faults);
        }
    }

    pub(crate) async fn find(&self, place: usize) -> Session {
        let found = self.brokers[0].ledger.find(&self.uploads[place].id).await;
        found.unwrap().expect("the ledger forgets nothing")
    }

    pub(crate) async fn operation(&mut self, operation: &Operation) -> Outcome {
        let Operation::HeldUp {
            upload,
            broker,
            at: Call { when },
            done,
            meanwhile,
            dies,
        } = operation
        else {
            return self.short(operation).await;
        };
        let (store, place, began) = (self.store(), upload % self.uploads.len(), self.clock.now());
        let session = self.find(place).await;
        let mut completing = Box::pin(complete_here(
            self.brokers[*broker].clone(),
            session,
            self.stated(place),
            Asker::Owner(client().by()),
        ));
        self.allowed += self.most_calls(place);
        self.orphans |= *dies;
        store.inject(Fault::Hold { done: *done }, *when);
        let ended = tokio::select! {
            told = &mut completing => Some(told),
            () = store.held() => None,
        };
        if let Some(told) = ended {
            store.clear_faults();
            self.storm();
            return self.told(place, told, false).await;
        }
        for operation in meanwhile {
            self.short(operation).await?;
        }
        store.release(*dies);
        if *dies {
            drop(completing);
            return Ok(());
        }
        self.uploads[place].overtaken |= self.clock.now() - began >= Duration::from_secs(29);
        let told = completing.await;
        self.told(place, told, false).await
    }

    async fn short(&mut self, operation: &Operation) -> Outcome {
        let of = |upload: &usize| upload % self.uploads.len();
        match operation {
            Operation::Put { upload, part, version } => {
                let place = of(upload);
                self.put(place, part % self.uploads[place].parts.len(), *version).await;
            }
            Operation::PutAgain { upload, part } => {
                let place = of(upload);
                self.send(place, part % self.uploads[place].parts.len(), true).await;
            }
            Operation::Foreign { upload, part } => {
                let place = of(upload);
                let session = self.find(place).await;
                let Some(id) = session.store_upload_id else {
                    return Ok(());
                };
                let upload = &mut self.uploads[place];
                let part = part % upload.parts.len();
                let bytes = format!("{part}:3;").into_bytes();
                upload.parts[part].sent.push(bytes.clone());
                let number = u16::try_from(part).unwrap() + 1;
                self.allowed += 1;
                self.world.bucket.put_part(&upload.key, &id, number, &bytes).await;
            }
            Operation::Complete { upload, broker } => {
                let place = of(upload);
                self.complete(place, *broker).await.map(|_| ())?;
            }
            Operation::Silent { upload, broker, done } => {
                let cut = if *done {
                    Fault::CutAfterEffect
                } else {
                    Fault::CutConnection
                };
                self.store().inject(cut, complete());
                // Six looks, each of them three times.
                self.store().inject(Fault::InternalError, head().times(18));
                let place = of(upload);
                self.complete(place, *broker).await.map(|_| ())?;
            }
            Operation::Abort { upload, broker } => {
                let place = of(upload);
                self.uploads[place].may_end = true;
                self.allowed += 3;
                let session = self.find(place).await;
                let _ = give_up::give_up(self.brokers[*broker].clone(), session, client().by()).await;
            }
            Operation::Pass { seconds } => self.clock.advance(Duration::from_secs(*seconds)),
            Operation::Sweep { broker } => {
                self.allow_sweep();
                _ = sweep_once(&self.brokers[*broker]).await;
            }
            Operation::Fails { fault, at } => {
                // An upload begun again may be left by a create without an answer, and by an abort that fails.
                self.orphans = true;
                self.store().inject(*fault, at.when);
            }
            Operation::LedgerFails(rows) => self.ledger.fail(*rows).await,
            Operation::LedgerMends => self.ledger.mend().await,
            Operation::Forget { upload } => {
                let place = of(upload);
                let Some(id) = self.find(place).await.store_upload_id else {
                    return Ok(());
                };
                self.uploads[place].may_be_lost = true;
                self.allowed += 1;
                self.world.bucket.abort_upload(&self.uploads[place].key, &id).await;
            }
            Operation::TakeKey { upload } => {
                let key = self.uploads[of(upload)].key.clone();
                for upload in self.uploads.iter_mut().filter(|upload| upload.key == key) {
                    upload.may_be_lost = true;
                }
                self.allowed += 1;
                self.world.bucket.put(&key, FOREIGN, &HashMap::new()).await;
            }
            Operation::HeldUp { .. } => unreachable!("is not short"),
        }
        Ok(())
    }

    /// What one round of the sweeper may ask: each upload completed, whether left or running out, aborted, and looked at.
    pub(crate) fn allow_sweep(&mut self) {
        let all: u64 = (0..self.uploads.len())
            .map(|place| 2 * self.most_calls(place) + 18)
            .sum();
        self.allowed += all + 18 * self.unheard.unsigned_abs();
    }
}
