-- Times are seconds since the Unix epoch unless the name ends in _ms. Ids of devices, relays and networks are 32 hexadecimal
-- digits, public keys unpadded URL-safe base64. Secrets are stored as SHA-256 only, passwords as argon2id PHC strings.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- One row. The version is bumped inside the transaction that appends to changes, so versions appear in commit order.
CREATE TABLE counter (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO counter (one, version) VALUES (1, 1);

CREATE TABLE organisations (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT NOT NULL,
    orders_version INTEGER NOT NULL DEFAULT 1,
    created        INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id   INTEGER NOT NULL REFERENCES organisations (id),
    email    TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    created  INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    token      BLOB PRIMARY KEY,
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    last_used  INTEGER NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;

CREATE TABLE networks (
    id         TEXT PRIMARY KEY,
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    name       TEXT NOT NULL,
    vni        INTEGER NOT NULL UNIQUE CHECK (vni BETWEEN 4096 AND 16777214),
    is_default INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    UNIQUE (org_id, name)
) STRICT;

CREATE TABLE auth_keys (
    id            TEXT PRIMARY KEY,
    org_id        INTEGER NOT NULL REFERENCES organisations (id),
    network_id    TEXT NOT NULL REFERENCES networks (id),
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
CREATE INDEX auth_keys_of_org ON auth_keys (org_id);

CREATE TABLE devices (
    id               TEXT PRIMARY KEY,
    org_id           INTEGER NOT NULL REFERENCES organisations (id),
    network_id       TEXT NOT NULL REFERENCES networks (id),
    host             INTEGER NOT NULL CHECK (host BETWEEN 1 AND 4194302),
    label            TEXT NOT NULL,
    identity         TEXT NOT NULL,
    tunnel           TEXT NOT NULL,
    tunnel_signature TEXT NOT NULL,
    ephemeral        INTEGER NOT NULL,
    -- Revocation epoch, in tickets.
    epoch            INTEGER NOT NULL DEFAULT 1,
    -- Bumped by every opened netmap stream, so that the removal of an ephemeral device cannot hit one that came back.
    attach_epoch     INTEGER NOT NULL DEFAULT 0,
    auth_key         TEXT,
    -- Relay ids joined by commas, home first.
    relays           TEXT NOT NULL,
    online           INTEGER NOT NULL DEFAULT 0,
    offline_since_ms INTEGER NOT NULL,
    created          INTEGER NOT NULL,
    UNIQUE (network_id, host),
    UNIQUE (network_id, label),
    UNIQUE (org_id, identity)
) STRICT;
-- The home relay: the first id of the list.
CREATE INDEX devices_home ON devices (org_id, substr(relays, 1, 32));
CREATE INDEX devices_ephemeral ON devices (offline_since_ms) WHERE ephemeral = 1 AND online = 0;

-- Host indices of removed devices wait here before they are handed out again.
CREATE TABLE released_hosts (
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    network_id TEXT NOT NULL REFERENCES networks (id),
    host       INTEGER NOT NULL,
    released   INTEGER NOT NULL,
    PRIMARY KEY (network_id, host)
) STRICT;

-- Removed devices: relays refuse their tickets, and a device that proves the old key is told that it was removed.
CREATE TABLE revocations (
    device_id TEXT PRIMARY KEY,
    org_id    INTEGER NOT NULL REFERENCES organisations (id),
    identity  TEXT NOT NULL,
    epoch     INTEGER NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_of_org ON revocations (org_id, at);

CREATE TABLE relays (
    id        TEXT PRIMARY KEY,
    org_id    INTEGER NOT NULL REFERENCES organisations (id),
    name      TEXT NOT NULL,
    identity  TEXT NOT NULL,
    -- JSON lists of texts.
    addresses TEXT NOT NULL,
    pins      TEXT NOT NULL,
    online    INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    UNIQUE (org_id, name)
) STRICT;

CREATE TABLE relay_tokens (
    id       TEXT PRIMARY KEY,
    org_id   INTEGER NOT NULL REFERENCES organisations (id),
    name     TEXT NOT NULL,
    secret   BLOB NOT NULL,
    expires  INTEGER NOT NULL,
    used     INTEGER,
    relay_id TEXT,
    created  INTEGER NOT NULL
) STRICT;

-- The change log: what netmap streams follow. network_id is NULL where a change concerns the whole organisation.
CREATE TABLE changes (
    version    INTEGER PRIMARY KEY,
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    network_id TEXT,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    payload    TEXT NOT NULL,
    at         INTEGER NOT NULL
) STRICT;
