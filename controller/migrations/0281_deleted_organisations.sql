-- Removed devices are told so even if their organisation was deleted, which this row outlives.
CREATE TABLE revocations_new (
    device_id TEXT PRIMARY KEY,
    org_id    INTEGER NOT NULL,
    identity  TEXT NOT NULL,
    epoch     INTEGER NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
INSERT INTO revocations_new SELECT device_id, org_id, identity, epoch, at FROM revocations;
DROP TABLE revocations;
ALTER TABLE revocations_new RENAME TO revocations;
CREATE INDEX revocations_of_org ON revocations (org_id, at);
