-- Sessions have an id by which people end them, and say when and where they began.
ALTER TABLE sessions ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN created INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN source TEXT NOT NULL DEFAULT '';
-- A session lives for seven days.
UPDATE sessions SET id = lower(hex(randomblob(6))), created = max(0, expires - 604800);
CREATE UNIQUE INDEX sessions_id ON sessions (id);
CREATE INDEX sessions_of_account ON sessions (account_id);

-- Where a person logged in from before: strangers' failed logins do not delay those places.
CREATE TABLE login_sources (
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    source     TEXT NOT NULL,
    last       INTEGER NOT NULL,
    PRIMARY KEY (account_id, source)
) STRICT;
