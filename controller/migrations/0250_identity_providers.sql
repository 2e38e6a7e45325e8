-- The identity provider of an organisation, by which its people log in. client_secret is sealed.
CREATE TABLE identity_providers (
    org_id        INTEGER PRIMARY KEY REFERENCES organisations (id) ON DELETE CASCADE,
    issuer        TEXT NOT NULL,
    -- PEM, if the provider's server is not known by a public CA.
    issuer_ca     TEXT,
    client_id     TEXT NOT NULL,
    client_secret BLOB NOT NULL,
    -- Joined by commas; empty for an organisation that takes in invited people only.
    domains       TEXT NOT NULL,
    groups_claim  TEXT NOT NULL,
    changed       INTEGER NOT NULL
) STRICT;

-- Who a person is at the organisation's identity provider, and the groups that the provider named last. The subject counts,
-- never the email. refresh_token is sealed.
CREATE TABLE identities (
    org_id        INTEGER NOT NULL,
    account_id    INTEGER NOT NULL,
    issuer        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    -- JSON list of texts.
    groups        TEXT NOT NULL,
    -- When the provider said so.
    heard         INTEGER NOT NULL,
    refresh_token BLOB,
    PRIMARY KEY (org_id, account_id),
    UNIQUE (org_id, issuer, subject),
    FOREIGN KEY (org_id, account_id) REFERENCES people (org_id, account_id) ON DELETE CASCADE
) STRICT;
