-- Names that networks had before: until then members find them by these, too, and no other network of the organisation gets them.
CREATE TABLE former_names (
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    name       TEXT NOT NULL,
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    until      INTEGER NOT NULL,
    PRIMARY KEY (org_id, name)
) STRICT;
CREATE INDEX former_names_of_network ON former_names (network_id);
