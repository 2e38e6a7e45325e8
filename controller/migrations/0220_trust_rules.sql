-- Jobs enrol by the token that their own provider signs for them. A rule says which tokens are believed.

CREATE TABLE trust_rules (
    id            TEXT PRIMARY KEY,
    org_id        INTEGER NOT NULL REFERENCES organisations (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    audience      TEXT NOT NULL,
    -- JSON object of texts.
    claims        TEXT NOT NULL,
    -- PEM, if the issuer's server is not known by a public CA.
    issuer_ca     TEXT,
    -- A JSON Web Key Set, if the issuer cannot be reached.
    jwks          TEXT,
    device_name   TEXT NOT NULL,
    lifetime_secs INTEGER NOT NULL,
    uses          INTEGER NOT NULL DEFAULT 0,
    last_used     INTEGER,
    created       INTEGER NOT NULL,
    UNIQUE (org_id, name)
) STRICT;
CREATE INDEX trust_rules_by_token ON trust_rules (issuer, audience);
CREATE INDEX trust_rules_by_audience ON trust_rules (audience);

CREATE TABLE trust_rule_networks (
    rule_id    TEXT NOT NULL REFERENCES trust_rules (id) ON DELETE CASCADE,
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    PRIMARY KEY (rule_id, network_id)
) STRICT;

-- SHA-256 of issuer and id of each token that enrolled a device, until the token ends by itself.
CREATE TABLE used_tokens (
    digest  BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX used_tokens_by_end ON used_tokens (expires);

-- Devices that end at a time, whether they are online or not.
CREATE TABLE device_ends (
    device_id TEXT PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    ends      INTEGER NOT NULL
) STRICT;
CREATE INDEX device_ends_by_time ON device_ends (ends);
