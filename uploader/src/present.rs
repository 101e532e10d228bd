//! Which files are at the store already, for `--if-changed`: by what it lists, by what earlier runs have recorded, and by
//! the file's content where those two do not tell.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use shared::api::{ListObjects, ListedObject, Me};
use shared::{ObjectKey, PartPlan, PartSizes};
use unicode_normalization::UnicodeNormalization as _;

use crate::error::UploadError;
use crate::identity::{self, Identity};
use crate::options::PutOptions;
use crate::progress::{Event, Progress};
use crate::records::{Record, Records, Tag, key_hash, whose};
use crate::source::Source;
use crate::verify::{self, Verdict};
use crate::{Engine, Uploaded, journal};

/// Objects that are known at once, of 40 bytes each or a little more; those beyond count as not there.
const MOST_LISTED: usize = 2_000_000;
/// So many single names are looked up one by one; more of them by what they have in common.
const MOST_SINGLE: usize = 8;

/// Which names files will be sent by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Named {
    /// One of just this name.
    Exactly(String),
    /// Those whose names begin with this; with nothing, all.
    Below(String),
}

/// What is known of the objects that files would become. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Present(Arc<Known>);

#[derive(Debug)]
struct Known {
    engine: Arc<Engine>,
    options: PutOptions,
    keys: Keys,
    /// By [`key_hash`]; nothing where the broker does not let this caller look.
    listed: Option<HashMap<u64, Listed>>,
    records: Option<Mutex<Records>>,
    /// Whether what is found out is recorded.
    recording: bool,
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    size: u64,
    tag: Tag,
}

/// What a file has been found to be.
#[derive(Clone, Debug)]
#[must_use]
pub enum Presence {
    /// At the store already, as it is; [`Event::Unchanged`] has told so.
    Unchanged,
    /// Not there, or otherwise, or not to be known: to be sent.
    ToSend(Checked),
}

/// A file that is to be sent, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Checked {
    present: Present,
    path: PathBuf,
    name: String,
    identity: Option<Identity>,
}

impl Present {
    pub(crate) async fn find(
        engine: Arc<Engine>,
        named: &[Named],
        options: &PutOptions,
        recording: bool,
        progress: &dyn Progress,
    ) -> Result<Self, UploadError> {
        let me = engine.broker.me(progress).await?;
        let destination = options.granted(&me)?;
        let keys = Keys::new(&destination.key_template, &me);
        let directory = engine.journals.as_ref();
        let records = directory.and_then(|directory| {
            let (account, name) = (engine.settings.account(), destination.name.as_bytes());
            let mut whose = vec![&account[..], name];
            // A broker that has moved to another bucket has the files there sent: nothing that is known was of that one.
            whose.extend(destination.bucket_id.as_ref().map(String::as_bytes));
            let name = identity::hex(&identity::short_hash(&whose));
            let name = format!("{name}.{}", journal::RECORDS);
            // Opening them would make what is not there.
            if !recording && !directory.path().join(&name).exists() {
                return None;
            }
            directory.attempt(progress, |path| {
                let records = Records::open(&path.join(&name));
                if recording {
                    journal::sweep(path, SystemTime::now());
                }
                records
            })
        });
        let listed = if destination.downloads {
            list(&engine, options.destination.as_deref(), &keys.prefixes(named), progress).await?
        } else {
            None
        };
        if listed.is_none() {
            let what = match &records {
                Some(_) => "what this uploader itself has recorded of earlier runs decides which files have changed",
                None => "there are no records of earlier runs either, so every file counts as changed",
            };
            let what = format!("the broker does not let you list what is at the store; {what}");
            progress.event(&Event::Warning { what: what.into() });
        }
        Ok(Self(Arc::new(Known {
            options: options.clone(),
            engine: engine.clone(),
            keys,
            listed,
            records: records.map(Mutex::new),
            recording,
        })))
    }

    /// Finds out whether the file is at the store already, where it would be sent by `name`, or by its own name if that is
    /// not given. It is read only if neither size nor records tell. What cannot be read is to be sent: that says why.
    pub async fn check(&self, path: &Path, name: Option<&str>, progress: &dyn Progress) -> Presence {
        let known = &self.0;
        let source = Source::open(path).ok().map(Arc::new);
        let own = || path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.unwrap_or_else(own);
        let checked = Checked {
            present: self.clone(),
            path: path.to_owned(),
            name: name.to_owned(),
            identity: source.as_ref().and_then(|source| source.identity()),
        };
        let Some((source, identity)) = source.zip(checked.identity) else {
            return Presence::ToSend(checked);
        };
        let recorded = checked.recorded(&identity);
        let key = known.keys.of(name);
        let Some(place) = key.as_deref().map(key_hash).or(recorded.map(|record| record.key)) else {
            return Presence::ToSend(checked);
        };
        // A file that was sent by another name, or to another place, has become another object.
        let recorded = recorded.filter(|record| record.key == place).map(|record| record.tag);
        let tag = match &known.listed {
            None => recorded,
            Some(listed) => match listed.get(&place).filter(|object| object.size == identity.size) {
                Some(object) if recorded == Some(object.tag) => recorded,
                Some(object) if known.is_same(&source, object.tag).await => {
                    checked.record(place, object.tag, progress);
                    Some(object.tag)
                }
                _ => None,
            },
        };
        let Some(etag) = tag.map(Tag::etag) else {
            return Presence::ToSend(checked);
        };
        let key = key.and_then(|key| ObjectKey::try_from(key).ok());
        progress.event(&Event::Unchanged {
            key,
            size: identity.size,
            etag,
        });
        Presence::Unchanged
    }
}

impl Known {
    /// Whether the ETag is of the file's content; not where it is no MD5, or of parts of another size than this run's.
    async fn is_same(&self, source: &Arc<Source>, tag: Tag) -> bool {
        let size = source.size().unwrap_or_default();
        let plan = PartPlan::for_size(size, self.options.part_size, u64::MAX);
        let (Some(etag), Ok(plan)) = (tag.etag(), plan) else {
            return false;
        };
        let sizes = Some(PartSizes::Equal(plan.part_size()));
        let compared = verify::compare(&self.engine.hashing, source, &etag, sizes).await;
        matches!(compared, Ok(Verdict::Same)) && source.check().is_ok()
    }
}

impl Checked {
    /// Records that the file has become this object, so that the next run need not read it.
    pub fn became(&self, uploaded: &Uploaded, progress: &dyn Progress) {
        let object = &uploaded.object;
        self.record(key_hash(object.key.as_str()), Tag::of(&object.etag), progress);
    }

    /// What is recorded of the file as it is.
    fn recorded(&self, identity: &Identity) -> Option<Record> {
        let whose = whose(&self.path, &self.name).ok()?;
        let records = self.present.0.records.as_ref()?;
        let records = records.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(&whose).filter(|record| record.is_of(identity)).copied()
    }

    fn record(&self, key: u64, tag: Tag, progress: &dyn Progress) {
        let known = &self.present.0;
        let now = std::fs::metadata(&self.path).ok().map(Identity::from);
        // What has changed since it was looked at, or only just before, may not be what the object was made of.
        let (Some(directory), Some(records), Some(identity)) = (
            &known.engine.journals,
            &known.records,
            now.filter(|now| Some(*now) == self.identity && now.is_settled(SystemTime::now()))
                .filter(|_| known.recording),
        ) else {
            return;
        };
        let record = Record {
            file: identity.digest(),
            key,
            tag,
        };
        directory.attempt(progress, |_| {
            let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
            records.put(whose(&self.path, &self.name)?, record)
        });
    }
}

/// Lists what has these prefixes; nothing where the caller may not.
async fn list(
    engine: &Engine,
    destination: Option<&str>,
    prefixes: &[(String, bool)],
    progress: &dyn Progress,
) -> Result<Option<HashMap<u64, Listed>>, UploadError> {
    let mut listed = HashMap::new();
    for (prefix, is_key) in prefixes {
        let mut query = ListObjects {
            destination: destination.map(str::to_owned),
            prefix: Some(prefix.clone()).filter(|prefix| !prefix.is_empty()),
            // Of all keys that begin with one of them, it comes first.
            limit: is_key.then_some(1),
            ..ListObjects::default()
        };
        loop {
            let page = match engine.broker.objects(&query).await {
                Ok(page) => page,
                Err(UploadError::Refused { problem, .. }) if problem.status == 403 => return Ok(None),
                Err(error) => return Err(error),
            };
            listed.extend(page.objects.iter().map(|object: &ListedObject| {
                let tag = Tag::of(&object.etag);
                (key_hash(&object.key), Listed { size: object.size, tag })
            }));
            if listed.len() > MOST_LISTED {
                let what = format!(
                    "there are more than {MOST_LISTED} objects to compare with; files whose objects are not among the first \
                     {MOST_LISTED} are sent again. Fewer directories at a time avoid that"
                );
                progress.event(&Event::Warning { what: what.into() });
                return Ok(Some(listed));
            }
            query.cursor = page.next_cursor;
            if *is_key || query.cursor.is_none() {
                break;
            }
        }
    }
    Ok(Some(listed))
}

/// How the destination makes keys for this caller.
#[derive(Debug)]
struct Keys {
    /// What stands before the name, or before what nobody knows beforehand.
    before: String,
    /// What stands behind the name; nothing if the key cannot be known beforehand.
    after: Option<String>,
    /// Whether what is known begins with the name, so that names tell prefixes.
    name_follows: bool,
}

impl Keys {
    fn new(template: &str, me: &Me) -> Self {
        let template = template.replace("{principal}", &me.principal);
        let unknown = ["{date}", "{uuid}"].iter().filter_map(|what| template.find(what)).min();
        let name = template.find("{name}");
        let end = name.into_iter().chain(unknown).min().unwrap_or(template.len());
        let (before, rest) = template.split_at_checked(end).unwrap_or((&template, ""));
        let after = rest.strip_prefix("{name}");
        Self {
            before: before.to_owned(),
            name_follows: after.is_some(),
            after: after
                .filter(|after| unknown.is_none() && !after.contains("{name}"))
                .map(str::to_owned),
        }
    }

    /// The key of a file of this name, in Unicode's form C as the broker makes it.
    fn of(&self, name: &str) -> Option<String> {
        let after = self.after.as_ref()?;
        Some(format!("{}{}{after}", self.before, name.nfc().collect::<String>()))
    }

    /// What has to be listed to know of these names: prefixes of which none begins with another, and whether each is a key.
    fn prefixes(&self, named: &[Named]) -> Vec<(String, bool)> {
        if !self.name_follows {
            return vec![(self.before.clone(), false)];
        }
        let single = named.iter().filter(|named| matches!(named, Named::Exactly(_))).count();
        let mut prefixes: Vec<(String, bool)> = Vec::new();
        let mut common: Option<String> = None;
        for named in named {
            match named {
                Named::Exactly(name) => match self.of(name) {
                    Some(key) if single <= MOST_SINGLE => prefixes.push((key, true)),
                    _ => {
                        let prefix = format!("{}{}", self.before, name.nfc().collect::<String>());
                        common = Some(common.map_or(prefix.clone(), |common| in_common(&common, &prefix)));
                    }
                },
                Named::Below(name) => {
                    prefixes.push((format!("{}{}", self.before, name.nfc().collect::<String>()), false));
                }
            }
        }
        prefixes.extend(common.map(|common| (common, false)));
        prefixes.sort();
        prefixes.dedup_by(|later, earlier| later.0.starts_with(&earlier.0) && (!earlier.1 || *later == *earlier));
        prefixes
    }
}

/// What both begin with, up to a whole character.
fn in_common(a: &str, b: &str) -> String {
    a.chars()
        .zip(b.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(template: &str) -> Keys {
        let me = serde_json::json!({
            "principal": "alice", "destinations": [], "server_time": "2026-01-01T00:00:00Z",
            "limits": {"max_parts_per_sign": 1, "max_parts": 1, "min_part_size": 1, "max_part_size": 1,
                "url_expires_in": 1, "upload_expires_in": 1},
        });
        Keys::new(template, &serde_json::from_value(me).unwrap())
    }

    #[test]
    fn a_key_is_known_beforehand_unless_date_or_chance_are_in_it() {
        for (template, key) in [
            ("{name}", Some("u\u{308}/a")),
            ("in/{principal}/{name}.new", Some("in/alice/u\u{308}/a.new")),
            ("{date}/{name}", None),
            ("{principal}/{name}/{uuid}", None),
            ("{uuid}", None),
        ] {
            let key = key.map(|key| key.nfc().collect());
            assert_eq!(keys(template).of("u\u{308}/a"), key, "{template}");
        }
    }

    #[test]
    fn as_little_is_listed_as_the_names_have_in_common() {
        let exactly = |name: &str| Named::Exactly(name.to_owned());
        let below = |name: &str| Named::Below(name.to_owned());
        let many: Vec<_> = (0..=MOST_SINGLE)
            .map(|number| exactly(&format!("log/{number}")))
            .collect();
        let listed = |template: &str, named: &[Named]| {
            let prefixes = keys(template).prefixes(named);
            prefixes
                .into_iter()
                .map(|(prefix, is_key)| format!("{prefix}{}", if is_key { "" } else { "*" }))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            listed("{principal}/{name}", &[exactly("b"), exactly("a")]),
            "alice/a alice/b"
        );
        assert_eq!(listed("{name}", &[below("photos/"), exactly("photos/a")]), "photos/*");
        assert_eq!(listed("{name}", &[exactly("a"), exactly("ab"), exactly("a")]), "a ab");
        assert_eq!(listed("{name}", &[below("a/"), below("")]), "*");
        assert_eq!(listed("{name}", &many), "log/*");
        assert_eq!(listed("{name}-{uuid}", &[exactly("a")]), "a*");
        assert_eq!(listed("{principal}/{date}/{name}", &[exactly("a")]), "alice/*");
    }
}
