-- Digest of the manifest in the server's registry that a release is made from; null where its image was
-- made in the server's engine. Garbage collection asks for it.
ALTER TABLE releases ADD COLUMN pushed text;
CREATE INDEX releases_by_pushed ON releases (pushed) WHERE pushed IS NOT NULL;
