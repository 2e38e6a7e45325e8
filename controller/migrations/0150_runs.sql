-- Runs of a controller over this database: up to which version the change log had grown when each began. A version that was told
-- counts only together with the run that told it.
CREATE TABLE runs (
    id      TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    started INTEGER NOT NULL
) STRICT;

-- Known by this among other programs' files: "OVLN".
PRAGMA application_id = 1331121230;
