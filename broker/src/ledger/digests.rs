//! The MD5s that clients declare for their parts: 16 bytes a part, 256 parts a row.

use std::collections::BTreeMap;

use shared::{Md5Digest, PartNumber, UploadId};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::{Ledger, LedgerError, placeholders};

const PARTS_PER_PAGE: u16 = 256;
const PAGE_LEN: usize = PARTS_PER_PAGE as usize * Md5Digest::LEN;

/// Declared MD5s by part. All zeros mean that none was declared: no bytes are known whose MD5 that is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Digests {
    pages: BTreeMap<i64, Vec<u8>>,
}

impl Digests {
    /// What was declared for this part.
    pub fn get(&self, number: PartNumber) -> Option<Md5Digest> {
        let (page, at) = place(number);
        let bytes: [u8; Md5Digest::LEN] = self.pages.get(&page)?.get(at..at + Md5Digest::LEN)?.try_into().ok()?;
        (bytes != [0; Md5Digest::LEN]).then(|| Md5Digest::from_bytes(bytes))
    }

    /// Declares an MD5 for this part, in place of an earlier one.
    pub fn set(&mut self, number: PartNumber, digest: Md5Digest) {
        let (page, at) = place(number);
        let bytes = self.pages.entry(page).or_insert_with(|| vec![0; PAGE_LEN]);
        if let Some(slot) = bytes.get_mut(at..at + Md5Digest::LEN) {
            slot.copy_from_slice(digest.as_bytes());
        }
    }

    /// The parts for which one was declared, in their order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = PartNumber> {
        let parts = self.pages.iter().flat_map(|(page, bytes)| {
            let first = u64::try_from(*page).unwrap_or_default() * u64::from(PARTS_PER_PAGE) + 1;
            (first..).zip(bytes.chunks_exact(Md5Digest::LEN))
        });
        parts
            .filter(|(_, bytes)| **bytes != [0; Md5Digest::LEN])
            .filter_map(|(number, _)| number.try_into().ok())
    }

    /// As the rows of the ledger hold them.
    pub(super) fn pages(&self) -> impl Iterator<Item = (i64, &[u8])> {
        self.pages.iter().map(|(page, bytes)| (*page, bytes.as_slice()))
    }

    /// What a page holds once this has been declared as well.
    pub(super) fn overlay(&self, page: i64, stored: &[u8]) -> Vec<u8> {
        let mut merged = stored.to_vec();
        merged.resize(PAGE_LEN, 0);
        for (slot, new) in merged.chunks_exact_mut(Md5Digest::LEN).zip(
            self.pages
                .get(&page)
                .into_iter()
                .flat_map(|new| new.chunks_exact(Md5Digest::LEN)),
        ) {
            if new != [0; Md5Digest::LEN] {
                slot.copy_from_slice(new);
            }
        }
        merged
    }
}

impl FromIterator<(PartNumber, Md5Digest)> for Digests {
    fn from_iter<I: IntoIterator<Item = (PartNumber, Md5Digest)>>(declared: I) -> Self {
        let mut digests = Self::default();
        for (number, digest) in declared {
            digests.set(number, digest);
        }
        digests
    }
}

fn place(number: PartNumber) -> (i64, usize) {
    let index = number.get() - 1;
    (
        i64::from(index / PARTS_PER_PAGE),
        usize::from(index % PARTS_PER_PAGE) * Md5Digest::LEN,
    )
}

/// Records what is declared for an upload that is new.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    id: &UploadId,
    declared: &Digests,
) -> Result<(), sqlx::Error> {
    if declared.pages.is_empty() {
        return Ok(());
    }
    // One statement, since each costs more than its rows do.
    let statement = format!(
        "INSERT INTO part_digests (upload_id, page, digests) VALUES {}",
        placeholders::rows(declared.pages.len(), 3)
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (page, bytes) in &declared.pages {
        query = query.bind(id.as_str()).bind(page).bind(bytes.as_slice());
    }
    query.execute(connection).await?;
    Ok(())
}

impl Ledger {
    /// All that was declared for an upload.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn digests(&self, id: &UploadId) -> Result<Digests, LedgerError> {
        let rows = sqlx::query("SELECT page, digests FROM part_digests WHERE upload_id = $1")
            .bind(id.as_str())
            .fetch_all(&self.pool)
            .await?;
        let pages = rows
            .iter()
            .map(|row| Ok((row.try_get("page")?, row.try_get("digests")?)))
            .collect::<Result<_, sqlx::Error>>()?;
        Ok(Digests { pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64) -> PartNumber {
        number.try_into().unwrap()
    }

    #[test]
    fn each_part_keeps_its_own_digest_across_pages() {
        let mut digests = Digests::default();
        for number in [1, 256, 257, 10_000] {
            digests.set(
                part(number),
                Md5Digest::from_bytes([u8::try_from(number % 251).unwrap(); 16]),
            );
        }
        assert_eq!(digests.get(part(256)), Some(Md5Digest::from_bytes([5; 16])));
        assert_eq!(digests.get(part(10_000)), Some(Md5Digest::from_bytes([211; 16])));
        assert_eq!(digests.get(part(2)), None);
        assert_eq!(digests.pages().count(), 3);
        let numbers: Vec<_> = digests.numbers().map(PartNumber::get).collect();
        assert_eq!(numbers, [1, 256, 257, 10_000]);
    }
}
