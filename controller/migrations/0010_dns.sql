-- Names that people give to things of a network. Names are absolute, in lower case, without the last dot.

-- Zones beside network.domain. via is a JSON list of resolvers inside the overlay; an empty one means that records answer.
CREATE TABLE dns_zones (
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    zone       TEXT NOT NULL,
    via        TEXT NOT NULL,
    created    INTEGER NOT NULL,
    PRIMARY KEY (network_id, zone)
) STRICT;

CREATE TABLE dns_records (
    org_id     INTEGER NOT NULL REFERENCES organisations (id),
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    created    INTEGER NOT NULL,
    PRIMARY KEY (network_id, name, kind, value)
) STRICT;
