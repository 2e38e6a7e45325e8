-- Logins by an identity provider that are under way: what the controller sent with the browser, and compares when it comes
-- back. They hold digests, but for the verifier, which is good for one code.
CREATE TABLE sign_ons (
    -- SHA-256 of the ticket in the address that the person opens.
    ticket        BLOB PRIMARY KEY,
    org_id        INTEGER NOT NULL REFERENCES organisations (id) ON DELETE CASCADE,
    login_request TEXT NOT NULL,
    -- SHA-256 of the browser's cookie, once a browser goes on with it; then of the state.
    browser       BLOB,
    state         BLOB UNIQUE,
    nonce         TEXT,
    verifier      TEXT,
    expires       INTEGER NOT NULL
) STRICT;
