-- Invitations into organisations. secret is the SHA-256 of the token's secret part.
CREATE TABLE invitations (
    id         TEXT PRIMARY KEY,
    org_id     INTEGER NOT NULL REFERENCES organisations (id) ON DELETE CASCADE,
    secret     BLOB NOT NULL,
    email      TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
    -- Who made it, and gives up to what that person may give at the time of the acceptance.
    account_id INTEGER REFERENCES accounts (id) ON DELETE SET NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    accepted   INTEGER,
    revoked    INTEGER
) STRICT;
CREATE INDEX invitations_of_org ON invitations (org_id);
