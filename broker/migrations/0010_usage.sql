-- Bytes of the objects that uploads of a day (UTC) became, for each whom they count against: summed as they are completed,
-- so that nobody has to add up a day's uploads to admit the next one.
CREATE TABLE usage (
    grantee     TEXT NOT NULL,
    destination TEXT NOT NULL,
    -- Since 1970; that on which the uploads were created.
    day         BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    PRIMARY KEY (grantee, destination, day)
);

INSERT INTO usage (grantee, destination, day, bytes)
SELECT COALESCE(grantee, owner), destination, created_at / 86400000, SUM(COALESCE(object_size, 0))
FROM uploads
WHERE state = 'completed'
GROUP BY COALESCE(grantee, owner), destination, created_at / 86400000;

DROP INDEX uploads_by_grantee;
