-- A device is a member of any number of networks: its place in one moves from its own row to a row of members.

CREATE TABLE places AS SELECT network_id, id AS device_id, host, label, created FROM devices;

CREATE TABLE devices_new (
    id               TEXT PRIMARY KEY,
    org_id           INTEGER NOT NULL REFERENCES organisations (id),
    -- What it asked to be called, made a label; its labels in networks may have a number behind it.
    hostname         TEXT NOT NULL,
    identity         TEXT NOT NULL,
    tunnel           TEXT NOT NULL,
    tunnel_signature TEXT NOT NULL,
    ephemeral        INTEGER NOT NULL,
    -- Revocation epoch, in tickets.
    epoch            INTEGER NOT NULL DEFAULT 1,
    -- Bumped by every opened netmap stream, so that the removal of an ephemeral device cannot hit one that came back.
    attach_epoch     INTEGER NOT NULL DEFAULT 0,
    -- By what right it was enrolled: one of the two; neither if the person is gone, or it was enrolled before this was noted.
    auth_key         TEXT,
    account_id       INTEGER REFERENCES accounts (id) ON DELETE SET NULL,
    -- Relay ids joined by commas, home first.
    relays           TEXT NOT NULL,
    online           INTEGER NOT NULL DEFAULT 0,
    offline_since_ms INTEGER NOT NULL,
    created          INTEGER NOT NULL,
    UNIQUE (org_id, identity)
) STRICT;
INSERT INTO devices_new
    SELECT id, org_id, label, identity, tunnel, tunnel_signature, ephemeral, epoch, attach_epoch, auth_key, NULL, relays, online,
        offline_since_ms, created
    FROM devices;
DROP TABLE devices;
ALTER TABLE devices_new RENAME TO devices;
-- The home relay: the first id of the list.
CREATE INDEX devices_home ON devices (org_id, substr(relays, 1, 32));
CREATE INDEX devices_ephemeral ON devices (offline_since_ms) WHERE ephemeral = 1 AND online = 0;

CREATE TABLE members (
    device_id  TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    network_id TEXT NOT NULL REFERENCES networks (id),
    host       INTEGER NOT NULL CHECK (host BETWEEN 1 AND 4194302),
    label      TEXT NOT NULL,
    created    INTEGER NOT NULL,
    PRIMARY KEY (device_id, network_id),
    UNIQUE (network_id, host),
    UNIQUE (network_id, label)
) STRICT;
INSERT INTO members SELECT device_id, network_id, host, label, created FROM places;

-- Networks that a device may join by itself, whether it is in them or not.
CREATE TABLE grants (
    device_id  TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    PRIMARY KEY (device_id, network_id)
) STRICT;
INSERT INTO grants SELECT device_id, network_id FROM places;
DROP TABLE places;

-- Whose the host index was: that device gets it again, and nobody can use up all by leaving and joining.
ALTER TABLE released_hosts ADD COLUMN device_id TEXT;

CREATE TABLE auth_keys_new (
    id            TEXT PRIMARY KEY,
    org_id        INTEGER NOT NULL REFERENCES organisations (id),
    secret        BLOB NOT NULL,
    reusable      INTEGER NOT NULL,
    ephemeral     INTEGER NOT NULL,
    on_name_taken TEXT NOT NULL,
    expires       INTEGER NOT NULL,
    uses          INTEGER NOT NULL DEFAULT 0,
    last_used     INTEGER,
    revoked       INTEGER,
    note          TEXT NOT NULL,
    created       INTEGER NOT NULL
) STRICT;
INSERT INTO auth_keys_new
    SELECT id, org_id, secret, reusable, ephemeral, on_name_taken, expires, uses, last_used, revoked, note, created FROM auth_keys;
CREATE TABLE auth_key_networks (
    key_id     TEXT NOT NULL,
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    PRIMARY KEY (key_id, network_id)
) STRICT;
INSERT INTO auth_key_networks SELECT id, network_id FROM auth_keys;
DROP TABLE auth_keys;
ALTER TABLE auth_keys_new RENAME TO auth_keys;
CREATE INDEX auth_keys_of_org ON auth_keys (org_id);
