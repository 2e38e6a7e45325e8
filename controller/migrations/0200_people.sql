-- The people of an organisation, and what each may do there. An account may be in several organisations, which know nothing of each other.
CREATE TABLE people (
    org_id     INTEGER NOT NULL REFERENCES organisations (id) ON DELETE CASCADE,
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    role       TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
    created    INTEGER NOT NULL,
    PRIMARY KEY (org_id, account_id)
) STRICT;
CREATE INDEX people_of_account ON people (account_id);
-- Everybody could do everything before there were roles.
INSERT INTO people SELECT org_id, id, 'owner', created FROM accounts;
ALTER TABLE accounts DROP COLUMN org_id;

-- Who made a key or token: it ends with the person's place in the organisation. Unknown for older ones.
ALTER TABLE auth_keys ADD COLUMN account_id INTEGER REFERENCES accounts (id) ON DELETE SET NULL;
ALTER TABLE relay_tokens ADD COLUMN account_id INTEGER REFERENCES accounts (id) ON DELETE SET NULL;
