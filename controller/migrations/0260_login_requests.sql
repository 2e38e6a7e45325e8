-- Logins that one machine asks for and a person grants on another one. secret is the SHA-256 of the secret part of the asking program's token.
CREATE TABLE login_requests (
    id         TEXT PRIMARY KEY,
    secret     BLOB NOT NULL,
    code       TEXT NOT NULL UNIQUE,
    -- What the asking program says of itself, and the address that was seen.
    program    TEXT NOT NULL,
    host       TEXT NOT NULL,
    source     TEXT NOT NULL,
    -- The organisation that it is for, where that is known from the beginning.
    wanted_org INTEGER REFERENCES organisations (id) ON DELETE CASCADE,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    -- The person who granted it, and the organisation that the session will be for.
    org_id     INTEGER REFERENCES organisations (id) ON DELETE CASCADE,
    account_id INTEGER REFERENCES accounts (id) ON DELETE CASCADE,
    -- One line for people: it was refused.
    denied     TEXT
) STRICT;
CREATE INDEX login_requests_of_source ON login_requests (source);
CREATE INDEX login_requests_of_account ON login_requests (account_id);
