-- The token by which a ticket was made (token:ID), so that all that a token led to can be revoked with it. NULL for tickets
-- made by command, by whoever was known in another way, or before this was kept.
ALTER TABLE tickets ADD COLUMN made_with TEXT;

CREATE INDEX tickets_by_token ON tickets (made_with) WHERE made_with IS NOT NULL;

-- Who else than its owner has asked to abort an upload while it was being completed: what does not become an object then ends.
ALTER TABLE uploads ADD COLUMN abort_asked_by TEXT;
