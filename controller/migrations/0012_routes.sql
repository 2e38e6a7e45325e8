-- What lies behind a device, as it offers it; members of the network hear of what was approved. Leaving the network ends both.
CREATE TABLE routes (
    device_id  TEXT NOT NULL,
    network_id TEXT NOT NULL,
    route      TEXT NOT NULL,
    approved   INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    PRIMARY KEY (device_id, network_id, route),
    FOREIGN KEY (device_id, network_id) REFERENCES members (device_id, network_id) ON DELETE CASCADE
) STRICT;
