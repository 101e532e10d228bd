-- What is declared for parts is recorded with the event that they were signed: one row that is added where a row was added and
-- a page of digests was read and written.
DROP INDEX events_by_upload;
ALTER TABLE events RENAME TO events_before;
CREATE TABLE events (
    upload_id  TEXT NOT NULL,
    -- Its place in the upload's trail. Clocks differ from broker to broker; this is the order in which things were recorded.
    number     BIGINT NOT NULL,
    -- Milliseconds since 1970 and a random number, both in hexadecimal.
    id         TEXT NOT NULL,
    at         BIGINT NOT NULL,
    -- created, parts_signed, completed, aborted, expired
    kind       TEXT NOT NULL,
    actor      TEXT NOT NULL,
    -- NULL where no request led to it.
    address    TEXT,
    -- A JSON object.
    detail     TEXT NOT NULL,
    -- The MD5s that were declared for the parts from this one on, 16 bytes each, zeros where none was; a later row's count.
    -- NULL where none was, and once they are no longer needed.
    first_part BIGINT,
    digests    BLOB,
    PRIMARY KEY (upload_id, number)
);

INSERT INTO events (upload_id, number, id, at, kind, actor, address, detail)
SELECT upload_id, ROW_NUMBER() OVER (PARTITION BY upload_id ORDER BY id), id, at, kind, actor, address, detail
FROM events_before;

-- What was declared for uploads that have not ended becomes the beginning of their trails.
INSERT INTO events (upload_id, number, id, at, kind, actor, detail, first_part, digests)
SELECT u.id, -1 - p.page,
    COALESCE((SELECT substr(MIN(e.id), 1, 26) FROM events_before e WHERE e.upload_id = u.id), '00000000000000000000000000')
        || CASE WHEN p.page < 10 THEN '0' ELSE '' END || CAST(p.page AS TEXT),
    u.created_at, 'parts_signed', u.owner, '{}', p.page * 256 + 1, p.digests
FROM part_digests p JOIN uploads u ON u.id = p.upload_id
WHERE u.state IN ('open', 'completing');

DROP TABLE events_before;
DROP TABLE part_digests;

-- Finds those that a webhook is told of.
CREATE UNIQUE INDEX events_sent ON events (id) WHERE kind IN ('completed', 'aborted', 'expired');
