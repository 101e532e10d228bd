-- When an upload ended without an object, aborted or expired; NULL before that.
ALTER TABLE uploads ADD COLUMN ended_at BIGINT;
-- When the store was seen to hold nothing any more of an upload that ended so, and late enough that nothing is on its way.
ALTER TABLE uploads ADD COLUMN cleared_at BIGINT;
-- The size of a stream, as its owner stated it when asking to complete: whoever takes that over has to know it.
ALTER TABLE uploads ADD COLUMN stated_size BIGINT;
UPDATE uploads SET ended_at = created_at WHERE state IN ('aborted', 'expired');

-- Finds what has run out, and what is left in the middle of being completed.
CREATE INDEX uploads_by_expiry ON uploads (state, expires_at);
-- Finds what the store may still hold parts of.
CREATE INDEX uploads_to_clear ON uploads (id) WHERE ended_at IS NOT NULL AND cleared_at IS NULL;

-- What one broker at a time does for all that share the ledger.
CREATE TABLE duties (
    name   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until  BIGINT NOT NULL
);
