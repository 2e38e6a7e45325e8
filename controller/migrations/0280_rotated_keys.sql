-- The CA that a device or relay has stored, by its own word; NULL = it never said so.
ALTER TABLE devices ADD COLUMN ca BLOB;
ALTER TABLE relays ADD COLUMN ca BLOB;
-- The organisation of the operator, which setup makes: the keys of the deployment are its own.
INSERT INTO settings (name, value)
    SELECT 'operator', CAST(CAST(min(id) AS TEXT) AS BLOB) FROM organisations HAVING count(*) > 0;
