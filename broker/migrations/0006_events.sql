-- What happened to each upload, by whom and from where. Rows are only ever added.
CREATE TABLE events (
    -- Milliseconds since 1970 and a random number, both in hexadecimal: in the order of time.
    id        TEXT PRIMARY KEY,
    upload_id TEXT NOT NULL,
    at        BIGINT NOT NULL,
    -- created, parts_signed, completed, aborted, expired
    kind      TEXT NOT NULL,
    actor     TEXT NOT NULL,
    -- NULL where no request led to it.
    address   TEXT,
    -- A JSON object.
    detail    TEXT NOT NULL
);

-- An upload's trail, page by page.
CREATE INDEX events_by_upload ON events (upload_id, id);

-- Events that a webhook has still to be told of: each comes in with its event, and goes once it has been taken.
CREATE TABLE deliveries (
    event_id   TEXT PRIMARY KEY,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    -- When it was given up; NULL before that.
    dead_at    BIGINT,
    last_error TEXT
);

-- Finds what is to be sent now.
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE dead_at IS NULL;
