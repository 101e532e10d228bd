//! The MD5s that clients declare for their parts: each window of parts is one row of the upload's trail, 16 bytes a part.

use std::collections::BTreeMap;

use shared::api::EventDetail;
use shared::{Md5Digest, PartNumber, UploadId};
use sqlx::Row;

use super::events::unreadable;
use super::{Ledger, LedgerError};

/// Stands for a part of a row for which none was declared: no bytes are known whose MD5 that is.
const NONE: [u8; Md5Digest::LEN] = [0; Md5Digest::LEN];
/// Parts further apart than this go into rows of their own, rather than zeros in between.
const GAP: u16 = 16;

/// Declared MD5s by part.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Digests(BTreeMap<PartNumber, Md5Digest>);

/// Neighbouring parts that are signed together.
#[derive(Debug)]
pub(super) struct Window {
    first: PartNumber,
    last: PartNumber,
    parts: u16,
    digests: Vec<u8>,
}

impl Digests {
    /// What was declared for this part.
    pub fn get(&self, number: PartNumber) -> Option<Md5Digest> {
        self.0.get(&number).copied()
    }

    /// These, as the rows of a trail take them.
    pub(super) fn windows(&self) -> Vec<Window> {
        Window::over(self.0.iter().map(|(number, md5)| (*number, Some(*md5))).collect())
    }

    /// Adds what a row says.
    fn read(&mut self, first: i64, digests: &[u8]) -> Option<()> {
        for (number, bytes) in (u64::try_from(first).ok()?..).zip(digests.chunks(Md5Digest::LEN)) {
            let bytes: [u8; Md5Digest::LEN] = bytes.try_into().ok()?;
            if bytes != NONE {
                self.0.insert(number.try_into().ok()?, Md5Digest::from_bytes(bytes));
            }
        }
        Some(())
    }
}

impl FromIterator<(PartNumber, Md5Digest)> for Digests {
    fn from_iter<I: IntoIterator<Item = (PartNumber, Md5Digest)>>(declared: I) -> Self {
        Self(declared.into_iter().collect())
    }
}

impl Window {
    /// Parts in any order, and what is declared for them.
    pub(super) fn over(mut parts: Vec<(PartNumber, Option<Md5Digest>)>) -> Vec<Self> {
        parts.sort_unstable_by_key(|(number, _)| *number);
        let mut windows: Vec<Self> = Vec::new();
        for (number, md5) in parts {
            match windows.last_mut() {
                Some(window) if number.get() - window.last.get() <= GAP => window.push(number, md5),
                _ => {
                    let mut window = Self {
                        first: number,
                        last: number,
                        parts: 0,
                        digests: Vec::new(),
                    };
                    window.push(number, md5);
                    windows.push(window);
                }
            }
        }
        windows
    }

    fn push(&mut self, number: PartNumber, md5: Option<Md5Digest>) {
        self.last = number;
        self.parts += 1;
        if let Some(md5) = md5 {
            let at = usize::from(number.get() - self.first.get()) * Md5Digest::LEN;
            self.digests.resize(at, 0);
            self.digests.extend(md5.as_bytes());
        }
    }

    /// As the trail tells it.
    pub(super) fn detail(&self) -> EventDetail {
        EventDetail {
            parts: Some(self.parts),
            first_part: Some(self.first),
            last_part: Some(self.last),
            ..EventDetail::default()
        }
    }

    /// As the columns `first_part` and `digests` hold it; nothing if nothing was declared.
    pub(super) fn columns(&self) -> Option<(i64, &[u8])> {
        (!self.digests.is_empty()).then(|| (self.first.get().into(), self.digests.as_slice()))
    }
}

impl Ledger {
    /// All that was declared for an upload.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn digests(&self, id: &UploadId) -> Result<Digests, LedgerError> {
        let rows = sqlx::query(
            "SELECT first_part, digests FROM events WHERE upload_id = $1 AND digests IS NOT NULL ORDER BY number",
        )
        .bind(id.as_str())
        .fetch_all(&self.pool)
        .await?;
        let mut declared = Digests::default();
        for row in rows {
            let (first, digests): (i64, Vec<u8>) = (row.try_get("first_part")?, row.try_get("digests")?);
            declared
                .read(first, &digests)
                .ok_or_else(|| unreadable(id.as_str(), "digests"))?;
        }
        Ok(declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64) -> PartNumber {
        number.try_into().unwrap()
    }

    fn md5(number: u64) -> Md5Digest {
        Md5Digest::from_bytes([u8::try_from(number % 251).unwrap() + 1; 16])
    }

    #[test]
    fn each_part_keeps_its_own_digest_through_the_rows_of_a_trail() {
        let numbers = [1, 2, 5, 256, 257, 400, 10_000];
        let declared: Digests = numbers.map(|number| (part(number), md5(number))).into_iter().collect();
        let windows = declared.windows();
        let told: Vec<_> = windows
            .iter()
            .map(|window| (window.first.get(), window.parts))
            .collect();
        assert_eq!(told, [(1, 3), (256, 2), (400, 1), (10_000, 1)]);
        let mut read = Digests::default();
        for (first, digests) in windows.iter().filter_map(Window::columns) {
            read.read(first, digests).unwrap();
        }
        assert_eq!(read, declared);
        assert_eq!(read.get(part(3)), None);
    }

    #[test]
    fn parts_without_an_md5_are_told_and_keep_none() {
        let [window] = &Window::over(vec![(part(3), None), (part(1), None), (part(2), Some(md5(2)))])[..] else {
            panic!("one window");
        };
        assert_eq!(window.detail().parts, Some(3));
        let mut read = Digests::default();
        let (first, digests) = window.columns().unwrap();
        read.read(first, digests).unwrap();
        assert_eq!(read, [(part(2), md5(2))].into_iter().collect());
        assert!(Window::over(vec![(part(1), None)])[0].columns().is_none());
    }

    #[test]
    fn a_row_that_cannot_be_is_not_read() {
        assert_eq!(Digests::default().read(0, &[1; 16]), None);
        assert_eq!(Digests::default().read(1, &[1; 15]), None);
        assert_eq!(Digests::default().read(10_000, &[1; 32]), None);
    }
}
