-- MD5, in hexadecimal, of a small file that goes up whole by one presigned PUT; NULL for files that go up in parts.
ALTER TABLE uploads ADD COLUMN put_md5 TEXT;
