-- A device that is disabled, or whose right has expired, keeps its place and takes no part.
ALTER TABLE devices ADD COLUMN barred TEXT CHECK (barred IN ('disabled', 'expired'));
ALTER TABLE devices ADD COLUMN barred_since INTEGER;
-- From then on it has to prove its right again.
ALTER TABLE devices ADD COLUMN expires INTEGER;
CREATE INDEX devices_expiring ON devices (expires) WHERE expires IS NOT NULL AND barred IS NULL;
-- The version of its program, as its last session said.
ALTER TABLE devices ADD COLUMN version TEXT NOT NULL DEFAULT '';
-- Seconds for which an ephemeral device may be offline before it is removed; NULL is the controller's own time.
ALTER TABLE devices ADD COLUMN ephemeral_secs INTEGER;
