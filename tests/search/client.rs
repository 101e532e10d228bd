//! What clients ask of the brokers before anything is complete: uploads created, at the second attempt where the first has
//! trouble; parts signed and sent.

use broker::admit::{admit, admit_here};
use broker::batch;
use broker::error::ApiError;
use broker::handlers::sign_parts;
use broker::ledger::{Digests, Session};
use broker::policy::{CreateGrant, FormUpload};
use broker::principal::{Caller, Principal};
use broker::sign;
use shared::api::{BatchFile, CreateUpload};
use shared::{Md5Digest, PartNumber};
use store::Fault;
use store::fault::create;
use tests::md5;

use crate::history::{Kind, Shape, Trouble};
use crate::model::{PART_SIZE, Part, Signed, Upload, content, size};
use crate::run::{Outcome, Run};

/// Who asks.
pub(crate) fn client() -> Caller {
    Caller {
        principal: Principal::named("search"),
        address: None,
    }
}

/// An upload that its client was told of.
struct Begun {
    session: Session,
    /// How a small file goes up, which is told at once.
    ready: Option<Signed>,
}

fn contents(shape: &Shape) -> Vec<Vec<u8>> {
    (0..usize::from(shape.parts))
        .map(|part| content(shape, part, 0))
        .collect()
}

impl Run<'_> {
    pub(crate) async fn set_up(&mut self) -> Outcome {
        let scenario = self.scenario;
        for shape in &scenario.uploads {
            let number = if shape.same_key { 0 } else { self.uploads.len() };
            let name = format!("{}/{number}", self.number);
            if let Some(trouble) = &shape.begins {
                self.in_trouble(shape, &name, trouble).await?;
            }
            let begun = self.create(shape, &name).await;
            let begun =
                begun.map_err(|error| format!("{name} cannot be created, where nothing is in the way: {error}"))?;
            self.uploads.push(upload(shape, begun));
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

    /// Asks for an upload where that has trouble. Whoever is not told of an upload is told to ask again, and the ledger knows of none.
    async fn in_trouble(&mut self, shape: &Shape, name: &str, trouble: &Trouble) -> Outcome {
        let store = self.store();
        let told = match trouble {
            Trouble::Store { fault, times } => {
                self.orphans = true;
                store.inject(*fault, create().times(*times));
                Some(self.create(shape, name).await)
            }
            Trouble::Ledger(rows) => {
                self.ledger.fail(*rows).await;
                Some(self.create(shape, name).await)
            }
            Trouble::Unheard => Some(self.create(shape, name).await),
            // Nothing of a small file is asked of the store, unless it goes up as a part; that is the same as any other.
            Trouble::Dies { .. } if shape.kind == Kind::Small => None,
            Trouble::Dies { done } => {
                self.orphans = true;
                self.allowed += 3;
                store.inject(Fault::Hold { done: *done }, create());
                let (broker, by) = (self.brokers[0].clone(), client().by());
                let (grant, declared) = self.grant(shape, name)?;
                let mut creating = Box::pin(admit_here(&broker, &grant, &declared, &by));
                tokio::select! {
                    _ = &mut creating => return Err("a create that was held was answered".into()),
                    () = store.held() => {}
                }
                store.release(true);
                None
            }
        };
        store.clear_faults();
        self.ledger.mend().await;
        match told {
            Some(Ok(_)) => self.unheard += 1,
            Some(Err(error)) if error.status() != 503 => {
                return Err(format!("told {error} by a create that may be asked for again"));
            }
            Some(Err(_)) | None => {}
        }
        Ok(())
    }

    /// What the policy admits, and what is declared with it.
    fn grant(&self, shape: &Shape, name: &str) -> Result<(CreateGrant, Digests), String> {
        let broker = &self.brokers[0];
        let digests: Vec<Md5Digest> = contents(shape).iter().map(|bytes| md5(bytes)).collect();
        let (now, random) = (broker.clock.now(), broker.upload_random());
        let admitted = if shape.kind == Kind::Form {
            let asked = FormUpload {
                name: name.to_owned(),
                expires_in: 60,
                digests: digests.clone(),
                ..FormUpload::default()
            };
            let admitted = broker.policy.admit_form(&client().principal, asked, now, random);
            admitted.map(|(grant, _)| grant)
        } else {
            let asked = CreateUpload {
                name: name.to_owned(),
                size: (shape.kind == Kind::Sized).then(|| size(shape)),
                part_size: Some(PART_SIZE),
                ..CreateUpload::default()
            };
            broker.policy.admit_create(&client().principal, asked, now, random)
        };
        let declared = PartNumber::up_to(shape.parts)
            .zip(digests)
            .filter(|_| shape.kind == Kind::Form)
            .collect();
        Ok((admitted.map_err(|error| error.to_string())?, declared))
    }

    async fn create(&mut self, shape: &Shape, name: &str) -> Result<Begun, ApiError> {
        // The SDK asks three times, and so it does to have the store forget what was not recorded.
        self.allowed += 6;
        let broker = self.brokers[0].clone();
        if shape.kind != Kind::Small {
            let (grant, declared) = self.grant(shape, name).unwrap();
            let session = admit(broker, grant, declared, client().by()).await?;
            return Ok(Begun {
                session: session.expect("no two have the same fingerprint"),
                ready: None,
            });
        }
        let bytes = content(shape, 0, 0);
        let file = BatchFile {
            name: name.to_owned(),
            size: bytes.len() as u64,
            md5: md5(&bytes),
            content_type: None,
            acl: None,
            metadata: std::collections::BTreeMap::new(),
            destination: None,
        };
        let (now, random) = (broker.clock.now(), broker.upload_random());
        let grant = broker.policy.admit_small(&client().principal, file, now, random);
        let admitted = batch::create(&broker, vec![grant], &client().by()).await?.remove(0)?;
        let request = admitted.request.expect("it is not empty");
        Ok(Begun {
            session: broker.ledger.find(&admitted.id).await?.ok_or(ApiError::NoSuchUpload)?,
            ready: Some((request.url, request.headers, bytes)),
        })
    }

    /// Signs a part, as the handler does.
    pub(crate) async fn sign(&mut self, place: usize, part: usize, version: u8) -> Result<(), ApiError> {
        // Either of the two, which may recall the upload as it was.
        let broker = self.brokers[usize::from(version) % self.brokers.len()].clone();
        let upload = &mut self.uploads[place];
        let bytes = content(&upload.shape, part, version);
        // Said beforehand, as a client may.
        let size = (upload.shape.kind != Kind::Form && version.is_multiple_of(2)).then_some(bytes.len() as u64);
        let number = PartNumber::up_to(upload.shape.parts).nth(part).unwrap();
        let asked = sign::Part {
            number,
            md5: upload.shape.declares.then(|| md5(&bytes)),
            size,
        };
        let signed = sign_parts::sign(&broker, &client(), upload.id.as_str(), vec![asked]).await?;
        let signed = signed.parts.into_iter().next().unwrap();
        upload.signed += 1;
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

    pub(crate) async fn send(&mut self, place: usize, part: usize, first: bool) {
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
        self.allowed += 1;
        let _ = request.send().await;
    }

    pub(crate) async fn put(&mut self, place: usize, part: usize, version: u8) {
        if self.uploads[place].whole {
            self.send(place, part, true).await;
        } else if self.sign(place, part, version).await.is_ok() {
            self.send(place, part, false).await;
        }
    }
}

/// As its client knows it.
fn upload(shape: &Shape, Begun { session, ready }: Begun) -> Upload {
    let declared = matches!(shape.kind, Kind::Form | Kind::Small);
    let parts = contents(shape).into_iter().map(|bytes| Part {
        declared: if declared { vec![bytes] } else { Vec::new() },
        first: ready.clone(),
        last: ready.clone(),
        ..Part::default()
    });
    Upload {
        shape: shape.clone(),
        id: session.id,
        key: session.key.to_string(),
        write_token: session.write_token,
        whole: session.put_md5.is_some(),
        // With what was declared.
        signed: i64::from(declared),
        parts: parts.collect(),
        done: None,
        ended: None,
        may_end: false,
        may_be_lost: false,
        overtaken: false,
    }
}
