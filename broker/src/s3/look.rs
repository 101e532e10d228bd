//! Whether objects that clients put whole are there: a few pages of a listing for hundreds of them, where their keys lie close
//! together and ETags are MD5s; one HEAD each elsewhere.

use std::collections::BTreeMap;

use shared::ETag;
use tokio::task::JoinSet;

use super::{StoreClient, StoreError};
use crate::ledger::{Session, StoredObject};

/// A page of a listing costs about as much as so many HEADs.
const PAGE_IS_WORTH: usize = 16;
/// HEADs under way at once.
const AT_ONCE: usize = 16;

/// What is found at the key of an upload.
#[derive(Clone, Debug)]
pub enum Looked {
    /// The object that was put, or one of the same bytes.
    Own(StoredObject),
    /// Another one.
    Other,
    /// None.
    Nothing,
}

/// What a listing tells of an object.
#[derive(Debug)]
struct Listed {
    etag: ETag,
    size: u64,
}

impl StoreClient {
    /// Looks for the objects of these uploads; an answer each, in their order. Those of `by_md5` may be known by their MD5 in a
    /// listing, others by their write token alone.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn look_for(
        &self,
        uploads: &[Session],
        by_md5: impl Fn(&Session) -> bool,
    ) -> Result<Vec<Looked>, StoreError> {
        let mut buckets: BTreeMap<&str, Vec<(usize, &Session)>> = BTreeMap::new();
        for (place, upload) in uploads.iter().enumerate() {
            buckets.entry(&upload.bucket).or_default().push((place, upload));
        }
        let mut all = Vec::with_capacity(uploads.len());
        for (bucket, of_it) in buckets {
            let (places, of_it): (Vec<_>, Vec<_>) = of_it.into_iter().unzip();
            all.extend(places.into_iter().zip(self.look_in(bucket, &of_it, &by_md5).await?));
        }
        all.sort_unstable_by_key(|(place, _)| *place);
        Ok(all.into_iter().map(|(_, looked)| looked).collect())
    }

    async fn look_in(
        &self,
        bucket: &str,
        uploads: &[&Session],
        by_md5: &impl Fn(&Session) -> bool,
    ) -> Result<Vec<Looked>, StoreError> {
        let mut wanted: BTreeMap<&str, Option<Listed>> = BTreeMap::new();
        let mut by_head: Vec<usize> = (0..uploads.len()).collect();
        let listable = uploads.iter().filter(|upload| by_md5(upload));
        wanted.extend(listable.map(|upload| (upload.key.as_str(), None)));
        if !wanted.is_empty() {
            let listed = self.list_among(bucket, &mut wanted).await?;
            by_head.retain(|place| {
                uploads
                    .get(*place)
                    .is_some_and(|upload| upload.key.as_str() > listed.as_str() || !by_md5(upload))
            });
        }
        let mut heads = JoinSet::new();
        let mut headed = BTreeMap::new();
        for place in by_head {
            if heads.len() == AT_ONCE
                && let Some(Ok((place, head))) = heads.join_next().await
            {
                headed.insert(place, head);
            }
            if let Some(upload) = uploads.get(place) {
                let (store, bucket, key) = (self.clone(), bucket.to_owned(), upload.key.clone());
                heads.spawn(async move { (place, store.head(&bucket, &key).await) });
            }
        }
        while let Some(Ok((place, head))) = heads.join_next().await {
            headed.insert(place, head);
        }
        let judged = uploads
            .iter()
            .enumerate()
            .map(|(place, upload)| match headed.remove(&place) {
                Some(Err(error)) => Err(error),
                Some(Ok(None)) => Ok(Looked::Nothing),
                Some(Ok(Some(head))) if head.write_token.as_ref() == Some(&upload.write_token) => {
                    Ok(Looked::Own(head.object))
                }
                Some(Ok(Some(_))) => Ok(Looked::Other),
                None => Ok(match wanted.get(upload.key.as_str()) {
                    Some(Some(found)) => {
                        let md5 = upload.put_md5.map(shared::Md5Digest::to_hex);
                        if md5.is_some_and(|md5| found.etag.unquoted().eq_ignore_ascii_case(&md5)) {
                            Looked::Own(StoredObject {
                                etag: found.etag.clone(),
                                size: found.size,
                                version_id: None,
                            })
                        } else {
                            Looked::Other
                        }
                    }
                    Some(None) | None => Looked::Nothing,
                }),
            });
        judged.collect()
    }

    /// Fills in what a listing finds of the wanted keys, page by page from one to the next, for as long as that pays. Answers
    /// up to which key, inclusive, everything is known.
    async fn list_among(
        &self,
        bucket: &str,
        wanted: &mut BTreeMap<&str, Option<Listed>>,
    ) -> Result<String, StoreError> {
        let mut known = String::new();
        loop {
            let mut left =
                wanted.range::<str, _>((std::ops::Bound::Excluded(known.as_str()), std::ops::Bound::Unbounded));
            let Some((next, _)) = left.next() else {
                return Ok(known);
            };
            if left.count() + 1 < PAGE_IS_WORTH {
                return Ok(known);
            }
            let Some(start) = before(next) else {
                return Ok(known);
            };
            let page = self
                .client
                .list_objects_v2()
                .bucket(bucket)
                .start_after(start)
                .send()
                .await
                .map_err(|error| StoreError::new("ListObjectsV2", &error))?;
            let mut hits = 0;
            for object in page.contents() {
                let (Some(key), Some(size)) = (object.key(), object.size().and_then(|size| u64::try_from(size).ok()))
                else {
                    continue;
                };
                if let Some(slot) = wanted.get_mut(key) {
                    *slot = Some(Listed {
                        etag: ETag::new(object.e_tag().unwrap_or_default()),
                        size,
                    });
                    hits += 1;
                }
            }
            let last = page.contents().last().and_then(|object| object.key());
            match last {
                Some(last) if page.is_truncated().unwrap_or(false) => {
                    if last <= known.as_str() {
                        return Ok(known);
                    }
                    last.clone_into(&mut known);
                    if hits < PAGE_IS_WORTH {
                        return Ok(known);
                    }
                }
                // The listing is at its end: so are the wanted keys.
                Some(_) | None => return Ok(char::MAX.to_string()),
            }
        }
    }
}

/// A text that sorts a little before this one: its last character is one less. Nothing where that could not stand in the
/// store's XML.
fn before(key: &str) -> Option<String> {
    let (at, last) = key.char_indices().next_back()?;
    let less = char::from_u32(u32::from(last) - 1).filter(|c| *c >= ' ' && *c != '\u{7f}')?;
    let mut text = key.get(..at)?.to_owned();
    text.push(less);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_a_little_before_a_key_is_less_and_can_be_written() {
        for key in ["a", "photos/10", "ü", "x/!", "日"] {
            let text = before(key).unwrap();
            assert!(text.as_str() < key && !text.contains(char::is_control), "{text:?}");
        }
        for none in ["", "a ", "a\u{80}", "a\u{e000}"] {
            assert_eq!(before(none), None, "{none:?}");
        }
    }
}
