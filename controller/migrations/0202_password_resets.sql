-- One-time ways to a new password; a newer one replaces the older one of the account. secret is the SHA-256 of the token's secret part.
CREATE TABLE password_resets (
    id         TEXT PRIMARY KEY,
    account_id INTEGER NOT NULL UNIQUE REFERENCES accounts (id) ON DELETE CASCADE,
    secret     BLOB NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;
