-- Tokens with which programs call the API for a person, with a part of the person's rights. Scopes are permissions joined by commas.
CREATE TABLE api_tokens (
    id          TEXT PRIMARY KEY,
    org_id      INTEGER NOT NULL REFERENCES organisations (id),
    account_id  INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    secret      BLOB NOT NULL,
    name        TEXT NOT NULL,
    scopes      TEXT NOT NULL,
    created     INTEGER NOT NULL,
    expires     INTEGER NOT NULL,
    last_used   INTEGER,
    last_source TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX api_tokens_of_account ON api_tokens (org_id, account_id);
