-- How often the upload was begun anew at the store, which had lost it before it was completed.
ALTER TABLE uploads ADD COLUMN begun_again BIGINT NOT NULL DEFAULT 0;
