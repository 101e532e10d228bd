-- Finds a principal's uploads that have not ended, page by page.
CREATE INDEX uploads_by_owner ON uploads (owner, state, id);
-- Finds the upload that an object came from.
CREATE INDEX uploads_by_key ON uploads (bucket, object_key);
