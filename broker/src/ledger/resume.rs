//! Finding the upload that a client began before: two requests for the same content mean one upload, even at once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::{Ledger, LedgerError, Session, millis};
use crate::policy::CreateGrant;

/// What a request has in common with every other one for the same upload: all that was admitted but what is new each time.
/// Nothing, if the client gave no fingerprint.
pub(super) fn resume_key(grant: &CreateGrant) -> Option<String> {
    let fingerprint = grant.fingerprint.as_ref()?;
    let same = (
        (grant.owner.as_str(), &grant.destination, &grant.bucket),
        (grant.name.as_str(), fingerprint, grant.plan.columns()),
        (&grant.content_type, &grant.acl, &grant.metadata),
    );
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(serde_json::to_vec(&same).ok()?)))
}

impl Ledger {
    /// The upload for the same content that is open, or whose completion was begun.
    ///
    /// # Errors
    /// The database did not answer, or the row is not readable.
    pub async fn find_resumable(
        &self,
        grant: &CreateGrant,
        now: OffsetDateTime,
    ) -> Result<Option<Session>, LedgerError> {
        let Some(key) = resume_key(grant) else {
            return Ok(None);
        };
        let row = sqlx::query(
            "SELECT * FROM uploads WHERE resume_key = $1 AND (state = 'completing' OR state = 'open' AND expires_at > $2)",
        )
        .bind(key)
        .bind(millis(now))
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(Session::from_row).transpose()
    }
}
