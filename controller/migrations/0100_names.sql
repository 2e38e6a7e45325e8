-- Who has a name below network.domain: in each network a name means one thing, however it is written. Names are relative to the
-- network's domain. What records and wishes hold is filled in at the start, when the domain is known.
CREATE TABLE names (
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    name       TEXT NOT NULL COLLATE NOCASE,
    -- device: it is the label of one; record: people, or a route that they approved, gave it a meaning; wish: a device would like to
    -- publish a host by it, and nobody has approved that.
    kind       TEXT NOT NULL CHECK (kind IN ('device', 'record', 'wish')),
    device_id  TEXT,
    PRIMARY KEY (network_id, name),
    CHECK ((kind = 'record') = (device_id IS NULL)),
    -- With its place in the network a device loses what it holds there.
    FOREIGN KEY (device_id, network_id) REFERENCES members (device_id, network_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX names_of_device ON names (device_id, network_id);
INSERT INTO names SELECT network_id, label, 'device', device_id FROM members;
