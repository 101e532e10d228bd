//! Uploads of small files that go up whole, hundreds of them in one transaction.

use shared::UploadId;
use shared::api::{EventKind, UploadState};
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;

use super::events::{self, By, NewEvent};
use super::insert::{NewUpload, ROWS, insert};
use super::quota::{Meter, settle};
use super::session::{StoredObject, state};
use super::{Admission, Ledger, LedgerError, Session, placeholders};
use crate::policy::SmallGrant;

impl Ledger {
    /// Records new uploads as open: all that their limits allow, or none. Answers for each whether it is recorded.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn admit_puts(&self, puts: &[(UploadId, SmallGrant)], by: &By) -> Result<Vec<Admission>, LedgerError> {
        let mut writing = self.begin().await?;
        // They are of one request, so of one credential.
        if let Some((_, first)) = puts.first()
            && !self.holds(&mut writing, first.upload.credential.as_deref()).await?
        {
            writing.commit().await?;
            return Ok(vec![Admission::Revoked; puts.len()]);
        }
        let (mut meter, mut answers) = (Meter::default(), Vec::with_capacity(puts.len()));
        let mut uploads = Vec::with_capacity(puts.len());
        let mut created = Vec::with_capacity(puts.len());
        for (id, SmallGrant { upload: grant, md5, .. }) in puts {
            let reserved = match meter.take(&mut writing, grant).await? {
                Ok(reserved) => reserved,
                Err(exceeded) => {
                    answers.push(Admission::Exceeded(exceeded));
                    continue;
                }
            };
            answers.push(Admission::Recorded(reserved));
            uploads.push(NewUpload {
                id,
                grant,
                reserved,
                store_upload_id: None,
                resume_key: None,
                put_md5: Some(*md5),
            });
            created.push(events::created(id, grant, by));
        }
        insert(&mut writing, &uploads).await?;
        self.add_events(&mut writing, &created).await?;
        writing.commit().await?;
        Ok(answers)
    }

    /// The uploads of these ids, whoever owns them, in no order; those that are not known are left out.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn find_all(&self, ids: &[UploadId]) -> Result<Vec<Session>, LedgerError> {
        let mut sessions = Vec::with_capacity(ids.len());
        for ids in ids.chunks(ROWS) {
            let statement = format!(
                "SELECT * FROM uploads WHERE id IN ({})",
                placeholders::values(0, ids.len())
            );
            let mut select = sqlx::query(AssertSqlSafe(statement));
            for id in ids {
                select = select.bind(id.as_str());
            }
            for row in select.fetch_all(&self.pool).await? {
                sessions.push(Session::from_row(&row)?);
            }
        }
        Ok(sessions)
    }

    /// Records the objects that open uploads became: all or none. One that has ended otherwise meanwhile stays as it is. Answers
    /// the state that each is in afterwards, in their order.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn finish_puts(
        &self,
        finished: &[(&UploadId, &StoredObject)],
        by: &By,
        now: OffsetDateTime,
    ) -> Result<Vec<UploadState>, LedgerError> {
        let mut writing = self.begin().await?;
        let mut states = vec![UploadState::Completed; finished.len()];
        let mut completed = Vec::with_capacity(finished.len());
        // In one order whoever does it, so that of two who finish the same uploads none waits for the other in a circle.
        let mut in_order: Vec<_> = finished.iter().zip(&mut states).collect();
        in_order.sort_unstable_by_key(|((id, _), _)| id.as_str());
        for ((id, object), now_in) in in_order {
            let done = sqlx::query(
                "UPDATE uploads SET state = 'completed', etag = $2, object_size = $3, version_id = $4 \
                 WHERE id = $1 AND state = 'open' AND put_md5 IS NOT NULL",
            )
            .bind(id.as_str())
            .bind(object.etag.as_str())
            .bind(i64::try_from(object.size).unwrap_or(i64::MAX))
            .bind(object.version_id.as_deref())
            .execute(&mut *writing)
            .await?;
            if done.rows_affected() == 0 {
                let row = sqlx::query("SELECT state FROM uploads WHERE id = $1")
                    .bind(id.as_str())
                    .fetch_one(&mut *writing)
                    .await?;
                *now_in = state(id.as_str(), row.try_get("state")?)?;
                continue;
            }
            completed.push(NewEvent {
                upload: id,
                kind: EventKind::Completed,
                at: now,
                by,
                detail: events::completed(object),
                declared: None,
            });
        }
        let settled: Vec<_> = completed.iter().map(|event| event.upload).collect();
        settle(&mut writing, &settled).await?;
        self.add_events(&mut writing, &completed).await?;
        writing.commit().await?;
        let uploads = completed.len() as u64;
        let bytes = completed.iter().filter_map(|event| event.detail.size).sum();
        self.series.ended(EventKind::Completed, uploads, bytes);
        self.ring();
        Ok(states)
    }
}
