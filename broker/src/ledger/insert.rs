//! The rows of new uploads, one or hundreds in a statement.

use shared::{Md5Digest, UploadId};
use sqlx::{AnyConnection, AssertSqlSafe};

use super::{millis, placeholders};
use crate::policy::CreateGrant;

/// Rows of one INSERT: SQLite takes 32,766 values in a statement.
pub(super) const ROWS: usize = 500;

/// What was admitted, and how it goes up.
pub(super) struct NewUpload<'a> {
    pub(super) id: &'a UploadId,
    pub(super) grant: &'a CreateGrant,
    /// Bytes that are set aside for it.
    pub(super) reserved: u64,
    /// Of one in parts that the store has begun.
    pub(super) store_upload_id: Option<&'a str>,
    /// At most one open upload has it.
    pub(super) resume_key: Option<&'a str>,
    /// Of one that goes up whole.
    pub(super) put_md5: Option<Md5Digest>,
}

/// Records them as open, but for those whose resume key an open upload has already. Answers how many were recorded.
pub(super) async fn insert(connection: &mut AnyConnection, uploads: &[NewUpload<'_>]) -> Result<u64, sqlx::Error> {
    let mut recorded = 0;
    for rows in uploads.chunks(ROWS) {
        let statement = format!(
            "INSERT INTO uploads (id, owner, destination, bucket, name, object_key, store_upload_id, size, part_size, \
             part_count, content_type, acl, metadata, fingerprint, resume_key, write_token, put_md5, state, created_at, \
             expires_at, grantee, credential, reserved, content_disposition) VALUES {} ON CONFLICT (resume_key) DO NOTHING",
            placeholders::rows(rows.len(), 24)
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for upload in rows {
            let grant = upload.grant;
            let (size, part_size, part_count) = grant.plan.columns();
            insert = insert
                .bind(upload.id.as_str())
                .bind(grant.owner.as_str())
                .bind(grant.destination.as_str())
                .bind(grant.bucket.as_str())
                .bind(grant.name.as_str())
                .bind(grant.key.as_str())
                .bind(upload.store_upload_id)
                .bind(size)
                .bind(part_size)
                .bind(part_count)
                .bind(grant.content_type.as_deref())
                .bind(grant.acl.as_deref())
                .bind(serde_json::to_string(&grant.metadata).unwrap_or_else(|_| "{}".into()))
                .bind(grant.fingerprint.as_deref())
                .bind(upload.resume_key)
                .bind(grant.write_token.as_str())
                .bind(upload.put_md5.map(Md5Digest::to_hex))
                .bind("open")
                .bind(millis(grant.created_at))
                .bind(millis(grant.expires_at))
                .bind(grant.grantee.as_str())
                .bind(grant.credential.as_deref())
                .bind(i64::try_from(upload.reserved).unwrap_or(i64::MAX))
                .bind(grant.content_disposition);
        }
        recorded += insert.execute(&mut *connection).await?.rows_affected();
    }
    Ok(recorded)
}
