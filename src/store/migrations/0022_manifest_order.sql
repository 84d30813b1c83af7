-- json, not jsonb: graphs are named in the manifest's order, which jsonb does not keep.
ALTER TABLE releases ALTER COLUMN manifest TYPE json USING manifest::json;
