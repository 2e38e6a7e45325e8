-- The policy documents of a network, each as its author wrote it; the greatest number counts. A network without one has the
-- starter document, as number 0.
CREATE TABLE policies (
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    number     INTEGER NOT NULL,
    text       TEXT NOT NULL,
    -- The email of the person who set it, as it was then.
    author     TEXT NOT NULL,
    -- The number of the document that it took the text of, if it went back to one.
    goes_back  INTEGER,
    -- The version of the change log from which it counts.
    version    INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    PRIMARY KEY (network_id, number)
) STRICT;

-- The version of the change log at which anything that a network's policy looks at changed last: the document, the members, their
-- tags and routes, the people and their groups.
ALTER TABLE networks ADD COLUMN policy_at INTEGER NOT NULL DEFAULT 0;
