-- Tokens that the broker has made: who has one, and until when it holds. What was shown once is kept as SHA-256.
CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,
    principal  TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    -- A JSON array of RIGHT or RIGHT:DESTINATION; an empty one for all that the principal may do.
    scope      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- NULL for one that does not end by itself.
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE INDEX tokens_by_principal ON tokens (principal);

-- Tickets: by which others upload in the name of whoever made them.
CREATE TABLE tickets (
    id            TEXT PRIMARY KEY,
    sha256        TEXT NOT NULL,
    minted_by     TEXT NOT NULL,
    -- JSON arrays of strings.
    roles         TEXT NOT NULL,
    content_types TEXT NOT NULL,
    destination   TEXT NOT NULL,
    max_files     BIGINT,
    max_bytes     BIGINT,
    max_size      BIGINT,
    note          TEXT,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    revoked_at    BIGINT
);

CREATE INDEX tickets_by_maker ON tickets (minted_by, id);

-- Whose limits an upload counts against: its owner, or whoever made the ticket.
ALTER TABLE uploads ADD COLUMN grantee TEXT;
-- The token or ticket by which it was created, with which it ends.
ALTER TABLE uploads ADD COLUMN credential TEXT;
-- Bytes that are set aside for it: its size, or the most that it may come to where that is not known yet.
ALTER TABLE uploads ADD COLUMN reserved BIGINT NOT NULL DEFAULT 0;

-- What keeps the object from running in browsers, where it would.
ALTER TABLE uploads ADD COLUMN content_disposition TEXT;

UPDATE uploads SET grantee = owner, reserved = COALESCE(object_size, size, 54975581388800);

-- What somebody has open, and what they have uploaded since some time.
CREATE INDEX uploads_open_by_grantee ON uploads (grantee, destination) WHERE state IN ('open', 'completing');
CREATE INDEX uploads_by_grantee ON uploads (grantee, destination, created_at);
CREATE INDEX uploads_open_by_credential ON uploads (credential) WHERE state IN ('open', 'completing');

-- Rows to hold while limits are looked at and counted against, where there are several writers.
CREATE TABLE quotas (name TEXT PRIMARY KEY);
