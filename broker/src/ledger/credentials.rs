//! Tokens and tickets: made, found, listed, revoked.

use shared::{ObjectKey, UploadId};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use time::OffsetDateTime;

use super::quota::lock;
use super::{By, Ledger, LedgerError, REVOKED, Session, instant, millis};
use crate::auth::bearer::Bearer;
use crate::auth::scope::Scope;
use crate::auth::ticket::Terms;

/// Most tokens of one principal that hold at the same time: the one in use, and the one that is to take its place.
pub const TOKENS_AT_ONCE: i64 = 2;

/// Tickets with what they have been used for; to be gone on with by what is asked for.
const TICKETS: &str = "SELECT t.*, COUNT(u.id) AS files, \
    CAST(COALESCE(SUM(COALESCE(u.object_size, u.reserved)), 0) AS BIGINT) AS bytes FROM tickets t \
    LEFT JOIN uploads u ON u.owner = 'ticket:' || t.id AND u.state IN ('open', 'completing', 'completed')";

/// A token as the ledger keeps it.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its id, which is no secret.
    pub id: String,
    /// Whose.
    pub principal: String,
    /// SHA-256 in hexadecimal.
    pub digest: String,
    /// What it is good for.
    pub scope: Scope,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// A ticket as the ledger keeps it, and what it has been used for.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// What it allows.
    pub terms: Terms,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
    /// Files that are uploaded by it or under way.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Ledger {
    /// Records a new token. Answers whether it did: not if the principal has [`TOKENS_AT_ONCE`] that hold.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn add_token(
        &self,
        bearer: &Bearer,
        principal: &str,
        scope: &Scope,
        expires_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Result<bool, LedgerError> {
        let mut writing = self.begin().await?;
        lock(&mut writing, principal).await?;
        let row = sqlx::query(
            "SELECT COUNT(*) FROM tokens WHERE principal = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(principal)
        .bind(millis(now))
        .fetch_one(&mut *writing)
        .await?;
        let room = row.try_get::<i64, _>(0)? < TOKENS_AT_ONCE;
        if room {
            sqlx::query(
                "INSERT INTO tokens (id, principal, sha256, scope, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(bearer.id.as_str())
            .bind(principal)
            .bind(bearer.digest())
            .bind(serde_json::to_string(scope).unwrap_or_else(|_| "[]".into()))
            .bind(millis(now))
            .bind(expires_at.map(millis))
            .execute(&mut *writing)
            .await?;
        }
        writing.commit().await?;
        Ok(room)
    }

    /// The token of this id, unless it was revoked.
    ///
    /// # Errors
    /// The database did not answer, or the row is not readable.
    pub async fn find_token(&self, id: &str) -> Result<Option<Token>, LedgerError> {
        let row = sqlx::query("SELECT * FROM tokens WHERE id = $1 AND revoked_at IS NULL")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(token).transpose()
    }

    /// Whether there is any token that has not been revoked.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn has_token(&self) -> Result<bool, LedgerError> {
        let row = sqlx::query("SELECT id FROM tokens WHERE revoked_at IS NULL LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Whether there has ever been a token.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn had_token(&self) -> Result<bool, LedgerError> {
        let row = sqlx::query("SELECT id FROM tokens LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// All tokens, those that hold no longer too, by principal.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn tokens(&self) -> Result<Vec<Token>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY principal, created_at, id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(token).collect()
    }

    /// Revokes a token. Answers whether there was one to revoke.
    ///
    /// # Errors
    /// The database did not answer; the token holds.
    pub async fn revoke_token(&self, id: &str, now: OffsetDateTime) -> Result<bool, LedgerError> {
        self.revoke(
            "UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
            id,
            now,
        )
        .await
    }

    /// Records a new ticket. Answers whether it did: not if the token that it was made with has been revoked.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn add_ticket(&self, bearer: &Bearer, terms: &Terms) -> Result<bool, LedgerError> {
        let wide = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let list = |texts: &[String]| serde_json::to_string(texts).unwrap_or_else(|_| "[]".into());
        let mut writing = self.begin().await?;
        if !self.holds(&mut writing, terms.made_with.as_deref()).await? {
            writing.commit().await?;
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO tickets (id, sha256, minted_by, roles, content_types, destination, max_files, max_bytes, max_size, \
             note, created_at, expires_at, made_with) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(bearer.id.as_str())
        .bind(bearer.digest())
        .bind(terms.minted_by.as_str())
        .bind(list(&terms.roles))
        .bind(list(&terms.content_types))
        .bind(terms.destination.as_str())
        .bind(terms.max_files.map(i64::from))
        .bind(terms.max_bytes.map(wide))
        .bind(terms.max_size.map(wide))
        .bind(terms.note.as_deref())
        .bind(millis(terms.created_at))
        .bind(millis(terms.expires_at))
        .bind(terms.made_with.as_deref())
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        Ok(true)
    }

    /// Digest and terms of the ticket of this id, unless it was revoked.
    ///
    /// # Errors
    /// The database did not answer, or the row is not readable.
    pub async fn find_ticket(&self, id: &str) -> Result<Option<(String, Terms)>, LedgerError> {
        let row = sqlx::query("SELECT * FROM tickets WHERE id = $1 AND revoked_at IS NULL")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok((row.try_get("sha256")?, terms(&row)?))).transpose()
    }

    /// Tickets and what they have been used for: of one maker or of all, in the order of their ids, after one of them.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn tickets(
        &self,
        maker: Option<&str>,
        after: Option<&str>,
        limit: u16,
    ) -> Result<Vec<Ticket>, LedgerError> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "{TICKETS} WHERE t.id > $1 AND ($2 = '' OR t.minted_by = $2) GROUP BY t.id ORDER BY t.id LIMIT $3"
        )))
        .bind(after.unwrap_or_default())
        .bind(maker.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(ticket).collect()
    }

    /// The tickets that were made with this token: the id of each, and whether it holds.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn tickets_made_with(
        &self,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<(String, bool)>, LedgerError> {
        let rows = sqlx::query("SELECT id, expires_at, revoked_at FROM tickets WHERE made_with = $1 ORDER BY id")
            .bind(format!("token:{token}"))
            .fetch_all(&self.pool)
            .await?;
        let one = |row: &AnyRow| {
            let (expires_at, revoked_at): (i64, Option<i64>) = (row.try_get("expires_at")?, row.try_get("revoked_at")?);
            Ok((row.try_get("id")?, revoked_at.is_none() && expires_at > millis(now)))
        };
        rows.iter().map(one).collect()
    }

    /// The ticket of this id, whether or not it holds.
    ///
    /// # Errors
    /// As [`Ledger::tickets`].
    pub async fn ticket(&self, id: &str) -> Result<Option<Ticket>, LedgerError> {
        let row = sqlx::query(AssertSqlSafe(format!("{TICKETS} WHERE t.id = $1 GROUP BY t.id")))
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(ticket).transpose()
    }

    /// Revokes a ticket. Answers whether there was one to revoke.
    ///
    /// # Errors
    /// The database did not answer; the ticket holds.
    pub async fn revoke_ticket(&self, id: &str, now: OffsetDateTime) -> Result<bool, LedgerError> {
        self.revoke(
            "UPDATE tickets SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
            id,
            now,
        )
        .await
    }

    async fn revoke(&self, statement: &'static str, id: &str, now: OffsetDateTime) -> Result<bool, LedgerError> {
        let mut writing = self.begin().await?;
        let revoked = sqlx::query(statement)
            .bind(id)
            .bind(millis(now))
            .execute(&mut *writing)
            .await?;
        writing.commit().await?;
        Ok(revoked.rows_affected() == 1)
    }

    /// Who owns the upload that became the object with this write token, and whose limits it counted against; nothing where no
    /// such upload is known.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn whose(
        &self,
        bucket: &str,
        key: &ObjectKey,
        token: &str,
    ) -> Result<Option<(String, Option<String>)>, LedgerError> {
        let row = sqlx::query(
            "SELECT owner, grantee FROM uploads WHERE bucket = $1 AND object_key = $2 AND write_token = $3",
        )
        .bind(bucket)
        .bind(key.as_str())
        .bind(token)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok((row.try_get("owner")?, row.try_get("grantee")?)))
            .transpose()
    }

    /// Whether this credential, `token:ID` or `ticket:ID`, by which something is asked for still holds. Who revokes it waits
    /// until this transaction has ended, and then finds what came of it.
    pub(super) async fn holds(
        &self,
        connection: &mut AnyConnection,
        credential: Option<&str>,
    ) -> Result<bool, sqlx::Error> {
        let Some((kind, id)) = credential.and_then(|text| text.split_once(':')) else {
            return Ok(true);
        };
        let table = if kind == "token" { "tokens" } else { "tickets" };
        let lock = self.database.for_share();
        let statement = format!("SELECT id FROM {table} WHERE id = $1 AND revoked_at IS NULL{lock}");
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(id)
            .fetch_optional(connection)
            .await?;
        Ok(row.is_some())
    }

    /// The uploads that were created by this credential, `token:ID` or `ticket:ID`, and are open, or have ended without an
    /// object while the store may still hold parts of them.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn opened_by(&self, credential: &str) -> Result<Vec<Session>, LedgerError> {
        let rows = sqlx::query(
            "SELECT * FROM uploads WHERE credential = $1 AND state IN ('open', 'completing') UNION ALL \
             SELECT * FROM uploads WHERE credential = $1 AND ended_at IS NOT NULL AND cleared_at IS NULL ORDER BY id",
        )
        .bind(credential)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Session::from_row).collect()
    }

    /// Whether an upload that is being completed shall become no object any more: the token or ticket that it was created by
    /// has been revoked, or somebody has asked to abort it.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn is_to_end(&self, upload: &UploadId) -> Result<bool, LedgerError> {
        let mut connection = self.pool.acquire().await?;
        Ok(self.why_to_end(&mut connection, upload).await?.is_some())
    }

    /// By whom and for which reason it then ends. Whoever revokes the credential now waits until this transaction has ended.
    pub(super) async fn why_to_end(
        &self,
        connection: &mut AnyConnection,
        upload: &UploadId,
    ) -> Result<Option<(By, Option<&'static str>)>, sqlx::Error> {
        let row = sqlx::query("SELECT credential, abort_asked_by FROM uploads WHERE id = $1")
            .bind(upload.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        if let Some(actor) = row.try_get::<Option<String>, _>("abort_asked_by")? {
            return Ok(Some((By { actor, address: None }, None)));
        }
        let credential: Option<String> = row.try_get("credential")?;
        let holds = self.holds(connection, credential.as_deref()).await?;
        Ok((!holds).then(|| (By::sweeper(), Some(REVOKED))))
    }

    /// Notes that an upload is to be aborted which is being completed, should it not become an object.
    ///
    /// # Errors
    /// The database did not answer; nothing was noted.
    pub async fn ask_to_abort(&self, upload: &UploadId, by: &By) -> Result<(), LedgerError> {
        let mut writing = self.begin().await?;
        sqlx::query("UPDATE uploads SET abort_asked_by = $2 WHERE id = $1 AND state = 'completing'")
            .bind(upload.as_str())
            .bind(by.actor.as_str())
            .execute(&mut *writing)
            .await?;
        writing.commit().await
    }
}

fn unreadable(row: &AnyRow, what: &str) -> LedgerError {
    LedgerError::Row {
        id: row.try_get("id").unwrap_or_default(),
        what: what.to_owned(),
    }
}

fn at(row: &AnyRow, column: &str) -> Result<OffsetDateTime, LedgerError> {
    instant(row.try_get(column)?).ok_or_else(|| unreadable(row, column))
}

fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, LedgerError> {
    serde_json::from_str(&row.try_get::<String, _>(column)?).map_err(|_| unreadable(row, column))
}

fn token(row: &AnyRow) -> Result<Token, LedgerError> {
    Ok(Token {
        id: row.try_get("id")?,
        principal: row.try_get("principal")?,
        digest: row.try_get("sha256")?,
        scope: json(row, "scope")?,
        created_at: at(row, "created_at")?,
        expires_at: row.try_get::<Option<i64>, _>("expires_at")?.and_then(instant),
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.and_then(instant),
    })
}

fn ticket(row: &AnyRow) -> Result<Ticket, LedgerError> {
    let number = |column| Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default());
    Ok(Ticket {
        terms: terms(row)?,
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.and_then(instant),
        files: number("files")?,
        bytes: number("bytes")?,
    })
}

fn terms(row: &AnyRow) -> Result<Terms, LedgerError> {
    let number = |column: &str| -> Result<Option<u64>, LedgerError> {
        let number = row.try_get::<Option<i64>, _>(column)?.map(u64::try_from).transpose();
        number.map_err(|_| unreadable(row, column))
    };
    Ok(Terms {
        id: row.try_get("id")?,
        minted_by: row.try_get("minted_by")?,
        made_with: row.try_get("made_with")?,
        roles: json(row, "roles")?,
        destination: row.try_get("destination")?,
        max_files: number("max_files")?.map(|files| u32::try_from(files).unwrap_or(u32::MAX)),
        max_bytes: number("max_bytes")?,
        max_size: number("max_size")?,
        content_types: json(row, "content_types")?,
        note: row.try_get("note")?,
        created_at: at(row, "created_at")?,
        expires_at: at(row, "expires_at")?,
    })
}
