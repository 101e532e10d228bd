//! Runs one history: two brokers with one ledger and one clock, before one store; then heals the store, and looks at what is left.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::app::Shared;
use broker::complete::{Asker, Completion, complete_here};
use broker::config::{Secret, Settings};
use broker::error::ApiError;
use broker::handlers::{abort, sign_parts};
use broker::ledger::{Digests, Session};
use broker::policy::FormUpload;
use broker::principal::{Caller, Principal};
use broker::random::Random;
use broker::s3::{Clock, ProfileName};
use broker::sign;
use broker::start::open_with;
use broker::sweep::{Swept, sweep_once, unknown};
use shared::api::{CreateUpload, UploadState};
use shared::{Md5Digest, PartNumber};
use store::fault::{complete, head};
use store::{DevStore, Fault, Garbled};
use tempfile::TempDir;
use tests::{Bucket, StoreUnderTest, md5};

use crate::history::{Call, Operation, Scenario, Shape};
use crate::model::{FOREIGN, Part, Upload, content, owner};

/// Of an upload.
pub(crate) const LIFE: Duration = Duration::from_hours(2);
/// Longer than a lease.
const LEASE_AND_MORE: Duration = Duration::from_secs(61);
/// After this nothing can be on its way any more.
const STRAGGLE: Duration = Duration::from_secs(15 * 60 + 1);
/// How often a client asks in a healed world before it is let down.
const PATIENCE: usize = 8;
/// Calls to the store for one completion, however it goes: three attempts of a HEAD, four lists of four pages, a Complete and a
/// HEAD, each but Complete three times; then the looks, and an upload begun again.
const MOST_CALLS: u64 = 3 * (3 + 4 * 4 * 3 + 1 + 3) + 6 * 3 + 6;

/// What runs share: a store, and clients of it.
pub(crate) struct World {
    store: StoreUnderTest,
    bucket: Bucket,
    http: reqwest::Client,
    runs: AtomicU64,
}

/// One run.
pub(crate) struct Run<'a> {
    world: &'a World,
    /// Which run of its world it is: its keys begin with that.
    number: u64,
    pub(crate) brokers: [Shared; 2],
    pub(crate) clock: Clock,
    scenario: &'a Scenario,
    seed: u64,
    pub(crate) uploads: Vec<Upload>,
    _ledger: TempDir,
}

type Outcome = Result<(), String>;

pub(crate) fn client() -> Caller {
    Caller {
        principal: Principal::named("search"),
        address: None,
    }
}

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

    /// Runs a history; what is wrong, if anything is.
    pub(crate) async fn run(&self, seed: u64, scenario: &Scenario) -> Outcome {
        let store = self.store.faulty();
        store.clear_faults();
        store.pages_of(scenario.page);
        let mut run = Run::begin(self, seed, scenario).await;
        run.set_up().await?;
        run.storm();
        for operation in &scenario.operations {
            run.operation(operation).await?;
        }
        store.clear_faults();
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
            ..Settings::default()
        };
        let (config, clock, random) = (settings.resolve().unwrap(), Clock::jumping(), Random::seeded(seed));
        let open = || open_with(&config, clock.clone(), random.clone());
        Self {
            world,
            brokers: [open().await.unwrap(), open().await.unwrap()],
            clock,
            number: world.runs.fetch_add(1, Ordering::Relaxed),
            scenario,
            seed,
            uploads: Vec::new(),
            _ledger: ledger,
        }
    }

    pub(crate) fn store(&self) -> &'a DevStore {
        self.world.store.faulty()
    }

    fn storm(&self) {
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

    pub(crate) async fn set_up(&mut self) -> Outcome {
        for shape in &self.scenario.uploads {
            let number = if shape.same_key { 0 } else { self.uploads.len() };
            let upload = self.create(shape, format!("{}/{number}", self.number)).await;
            self.uploads.push(upload);
        }
        for place in 0..self.uploads.len() {
            for part in 0..self.uploads[place].parts.len() {
                if self.uploads[place].shape.sent {
                    self.put(place, part, 0).await;
                }
            }
        }
        Ok(())
    }

    async fn create(&self, shape: &Shape, name: String) -> Upload {
        let broker = &self.brokers[0];
        let contents: Vec<_> = (0..usize::from(shape.parts))
            .map(|part| content(part, 0, shape.sized))
            .collect();
        let digests: Vec<Md5Digest> = contents.iter().map(|bytes| md5(bytes)).collect();
        let (now, random) = (broker.clock.now(), broker.upload_random());
        let grant = if shape.sized {
            let asked = CreateUpload {
                name: name.clone(),
                size: Some(contents[0].len() as u64),
                ..CreateUpload::default()
            };
            broker
                .policy
                .admit_create(&client().principal, asked, now, random)
                .unwrap()
        } else {
            let asked = FormUpload {
                name: name.clone(),
                expires_in: 60,
                digests: digests.clone(),
                ..FormUpload::default()
            };
            broker
                .policy
                .admit_form(&client().principal, asked, now, random)
                .unwrap()
                .0
        };
        let declared: Digests = PartNumber::up_to(shape.parts)
            .zip(digests)
            .filter(|_| !shape.sized)
            .collect();
        let admitted = broker::admit::admit(broker.clone(), grant, declared, client().by()).await;
        let session = admitted.unwrap().unwrap();
        let parts = contents.into_iter().map(|bytes| Part {
            declared: if shape.sized { Vec::new() } else { vec![bytes] },
            ..Part::default()
        });
        Upload {
            shape: shape.clone(),
            id: session.id,
            key: session.key.to_string(),
            write_token: session.write_token,
            parts: parts.collect(),
            done: None,
            ended: None,
            may_end: false,
            may_be_lost: false,
            overtaken: false,
        }
    }

    pub(crate) async fn find(&self, place: usize) -> Session {
        let found = self.brokers[0].ledger.find(&self.uploads[place].id).await;
        found.unwrap().expect("the ledger forgets nothing")
    }

    /// Signs a part, as the handler does.
    async fn sign(&mut self, place: usize, part: usize, version: u8) -> Result<(), ApiError> {
        // Either of the two, which may recall the upload as it was.
        let broker = self.brokers[usize::from(version) % self.brokers.len()].clone();
        let upload = &mut self.uploads[place];
        let bytes = content(part, version, upload.shape.sized);
        let number = PartNumber::up_to(upload.shape.parts).nth(part).unwrap();
        let asked = sign::Part {
            number,
            md5: upload.shape.declares.then(|| md5(&bytes)),
            size: None,
        };
        let signed = sign_parts::sign(&broker, &client(), upload.id.as_str(), vec![asked]).await?;
        let signed = signed.parts.into_iter().next().unwrap();
        let part = &mut upload.parts[part];
        part.version = version;
        if upload.shape.declares {
            part.declared.push(bytes.clone());
        }
        let ready = (signed.url, signed.headers, bytes);
        part.first.get_or_insert_with(|| ready.clone());
        part.last = Some(ready);
        Ok(())
    }

    async fn send(&mut self, place: usize, part: usize, first: bool) {
        let part = &mut self.uploads[place].parts[part];
        let Some((url, headers, bytes)) = (if first { &part.first } else { &part.last }) else {
            return;
        };
        let mut request = self.world.http.put(url).body(bytes.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut damaged = bytes.clone();
        damaged[0] ^= 1;
        part.sent.extend([bytes.clone(), damaged]);
        let _ = request.send().await;
    }

    async fn put(&mut self, place: usize, part: usize, version: u8) {
        if self.sign(place, part, version).await.is_ok() {
            self.send(place, part, false).await;
        }
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
            None,
            Asker::Owner(client().by()),
        ));
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
                let upload = &mut self.uploads[place];
                let part = part % upload.parts.len();
                let bytes = content(part, 3, false);
                upload.parts[part].sent.push(bytes.clone());
                let (id, number) = (session.store_upload_id.unwrap(), u16::try_from(part).unwrap() + 1);
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
                let session = self.find(place).await;
                let _ = abort::give_up(self.brokers[*broker].clone(), session, client().by()).await;
            }
            Operation::Pass { seconds } => self.clock.advance(Duration::from_secs(*seconds)),
            Operation::Sweep { broker } => _ = sweep_once(&self.brokers[*broker]).await,
            Operation::Fails { fault, at } => self.store().inject(*fault, at.when),
            Operation::Forget { upload } => {
                let place = of(upload);
                let session = self.find(place).await;
                self.uploads[place].may_be_lost = true;
                let id = session.store_upload_id.unwrap();
                self.world.bucket.abort_upload(&self.uploads[place].key, &id).await;
            }
            Operation::TakeKey { upload } => {
                let key = self.uploads[of(upload)].key.clone();
                for upload in self.uploads.iter_mut().filter(|upload| upload.key == key) {
                    upload.may_be_lost = true;
                }
                self.world.bucket.put(&key, FOREIGN, &HashMap::new()).await;
            }
            Operation::HeldUp { .. } => unreachable!("is not short"),
        }
        Ok(())
    }

    /// Asks to complete; the parts that the client is to send again.
    pub(crate) async fn complete(&mut self, place: usize, broker: usize) -> Result<Vec<PartNumber>, String> {
        let session = self.find(place).await;
        let alone = session.state != UploadState::Completed;
        let before = self.store().requests();
        let told = complete_here(self.brokers[broker].clone(), session, None, Asker::Owner(client().by())).await;
        let calls = self.store().requests() - before;
        if calls > MOST_CALLS {
            return Err(format!("I6: {calls} calls to the store for one completion"));
        }
        let parts = match &told {
            Err(ApiError::PartsMissing(parts) | ApiError::PartsWrong(parts)) => parts.clone(),
            _ => Vec::new(),
        };
        self.told(place, told, alone).await?;
        Ok(parts)
    }

    /// Whether a client may be told this. `fresh` if the upload was not completed before, and nothing else happened meanwhile.
    async fn told(&mut self, place: usize, told: Result<Completion, ApiError>, fresh: bool) -> Outcome {
        let (etags_are_md5s, now) = (self.scenario.etags_are_md5s, self.clock.now());
        let expires_at = self.find(place).await.expires_at;
        let key = self.uploads[place].key.clone();
        let shares = self.uploads.iter().filter(|upload| upload.key == key).count() > 1;
        if shares {
            self.uploads[place].may_be_lost = true;
        }
        let upload = &self.uploads[place];
        let lost = |what: &str| Err(format!("told {what} of {key}, which nothing has brought about"));
        match told {
            Ok(Completion::Done(object)) => {
                let Some(found) = self.world.bucket.get(&key).await else {
                    return Err(format!("I1: told success of {key}, and there is no object"));
                };
                let whose = owner(&self.uploads, &key, &found, etags_are_md5s)?;
                let own = whose.is_some_and(|whose| whose.id == upload.id);
                if !own && (fresh || !upload.may_be_lost) {
                    return Err(format!(
                        "I1: told success of {key}, whose object is another's: {found:?}"
                    ));
                }
                if own && object.size != found.bytes.len() as u64 {
                    return Err(format!("I1: told {} bytes of {}", object.size, found.bytes.len()));
                }
                if upload.done.as_ref().is_some_and(|before| *before != object) {
                    return Err(format!("told {object:?}, and before {:?}", upload.done));
                }
                self.uploads[place].done = Some(object);
            }
            // Whoever was overtaken by the one that completed it may be told to ask again.
            Err(error) if upload.done.is_some() && (fresh || !matches!(error, ApiError::UploadBusy)) => {
                return Err(format!("told success of {key}, and then {error}"));
            }
            Err(ApiError::UploadLost) if !upload.may_be_lost => return lost("upload_lost"),
            Err(ApiError::UploadLost) => self.uploads[place].ended = Some("lost"),
            Err(ApiError::UploadEnded(_) | ApiError::NoSuchUpload) => {
                if !upload.may_end && upload.ended.is_none() && now < expires_at {
                    // Another completion may have been told so.
                    if !upload.may_be_lost {
                        return lost("upload_ended");
                    }
                }
                self.uploads[place].ended = Some("ended");
            }
            Err(ApiError::ObjectWrong { .. } | ApiError::PartsUnplanned(_)) => return lost("that the object is wrong"),
            Ok(Completion::Busy) | Err(_) => {}
        }
        Ok(())
    }

    /// In a world without faults, whoever was told to ask again, and does, gets the object.
    pub(crate) async fn persist(&mut self) -> Outcome {
        for place in 0..self.uploads.len() {
            if !self.uploads[place].shape.persists {
                continue;
            }
            let mut told = Vec::new();
            for _ in 0..PATIENCE {
                if self.uploads[place].done.is_some() || self.uploads[place].ended.is_some() {
                    break;
                }
                self.clock.advance(LEASE_AND_MORE);
                let parts = self.complete(place, 0).await?;
                for number in &parts {
                    let part = usize::from(number.get()) - 1;
                    let version = self.uploads[place].parts[part].version;
                    self.put(place, part, version).await;
                }
                told.push(parts);
            }
            let upload = &self.uploads[place];
            if upload.done.is_none() && upload.ended.is_none() {
                return Err(format!("{} is never completed; to be sent again: {told:?}", upload.key));
            }
        }
        Ok(())
    }

    /// After its time every upload is an object or nothing, and the ledger says which.
    pub(crate) async fn end(&mut self) -> Outcome {
        self.clock.advance(LIFE);
        for broker in [0, 1, 0, 1] {
            // Neither broker's sweeper can need more: completions taken over, expiry, and twice the stragglers.
            sweep_once(&self.brokers[broker])
                .await
                .map_err(|error| error.to_string())?;
            self.clock.advance(STRAGGLE);
        }
        let swept = sweep_once(&self.brokers[0]).await.map_err(|error| error.to_string())?;
        if swept != Swept::default() {
            return Err(format!("I4: the sweeper finds no end: {swept:?}"));
        }
        let prefix = format!("{}/", self.number);
        // A create whose answer was lost, or whose broker died, leaves an upload without parts that only the operator can tell.
        let later = self.clock.now() + Duration::from_hours(1);
        let broker = &self.brokers[0];
        let mut orphans = unknown(broker, later).await.map_err(|error| error.to_string())?;
        // Of a run that failed before this one nothing is to be seen.
        orphans.retain(|orphan| orphan.key.as_str().starts_with(&prefix));
        for orphan in orphans {
            let parts = self
                .world
                .bucket
                .parts(orphan.key.as_str(), &orphan.store_upload_id)
                .await;
            if parts > 0 {
                return Err(format!(
                    "I4: an upload to {} with parts that no ledger knows",
                    orphan.key
                ));
            }
            let bucket = &broker.policy.destination.bucket;
            let aborted = broker.store.abort(bucket, &orphan.key, &orphan.store_upload_id).await;
            aborted.map_err(|error| error.to_string())?;
        }
        let open = self.world.bucket.open_uploads(&prefix).await;
        if !open.is_empty() {
            return Err(format!("I4: still open at the store: {open:?}"));
        }
        for place in 0..self.uploads.len() {
            let (session, upload) = (self.find(place).await, &self.uploads[place]);
            let found = self.world.bucket.get(&upload.key).await;
            let whose = match &found {
                Some(object) => owner(&self.uploads, &upload.key, object, self.scenario.etags_are_md5s)?,
                None => None,
            };
            let own = whose.is_some_and(|whose| whose.id == upload.id);
            let right = match session.state {
                UploadState::Completed => own || upload.may_be_lost && found.is_some(),
                UploadState::Aborted | UploadState::Expired => !own && upload.done.is_none(),
                UploadState::Open | UploadState::Completing => false,
            };
            if !right {
                return Err(format!(
                    "I4: {} is {:?} in the ledger; its client was told {:?} {:?}; its object is there: {own}",
                    upload.key, session.state, upload.done, upload.ended
                ));
            }
        }
        let keys = self.world.bucket.keys(&prefix).await;
        if let Some(stray) = keys
            .iter()
            .find(|key| !self.uploads.iter().any(|upload| upload.key == **key))
        {
            return Err(format!("I2: an object at {stray}"));
        }
        Ok(())
    }
}
