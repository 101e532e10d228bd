-- One row an upload: what was admitted, and how it ended. Instants are whole milliseconds since 1970, UTC.
CREATE TABLE uploads (
    id              TEXT PRIMARY KEY,
    owner           TEXT NOT NULL,
    destination     TEXT NOT NULL,
    bucket          TEXT NOT NULL,
    name            TEXT NOT NULL,
    object_key      TEXT NOT NULL,
    -- NULL for an empty file, which needs no multipart upload.
    store_upload_id TEXT,
    -- The plan: size and part_size (known size), part_size alone (growing), part_count alone (form protocol).
    size            BIGINT,
    part_size       BIGINT,
    part_count      BIGINT,
    content_type    TEXT,
    acl             TEXT,
    -- A JSON object of strings.
    metadata        TEXT NOT NULL,
    fingerprint     TEXT,
    write_token     TEXT NOT NULL,
    -- open, completing, completed, aborted, expired
    state           TEXT NOT NULL,
    -- Who is completing it, and until when nobody else may.
    lease_holder    TEXT,
    lease_until     BIGINT,
    -- The object, once completed.
    etag            TEXT,
    version_id      TEXT,
    object_size     BIGINT,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL
);

-- Finds the upload that a client goes on with.
CREATE INDEX uploads_by_fingerprint ON uploads (owner, destination, name, fingerprint);

-- The MD5s that clients declared: 256 parts a row, 16 bytes a part, zeros where none was declared.
CREATE TABLE part_digests (
    upload_id TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    page      BIGINT NOT NULL,
    digests   BLOB NOT NULL,
    PRIMARY KEY (upload_id, page)
);
