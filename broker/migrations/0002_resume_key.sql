-- What two requests for one and the same upload have in common, as a hash: at most one open upload has it. NULL where there is
-- no fingerprint, and once the upload has ended. Uploads that were open before this are not found again by their fingerprint.
ALTER TABLE uploads ADD COLUMN resume_key TEXT;
DROP INDEX uploads_by_fingerprint;
CREATE UNIQUE INDEX uploads_by_resume_key ON uploads (resume_key);
