-- Devices of some keys wait for a person before they are in any network.

ALTER TABLE auth_keys ADD COLUMN approval INTEGER NOT NULL DEFAULT 0;

CREATE TABLE waiting (
    device_id  TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    -- Whether it joins at the approval; the others it may join by itself then.
    joins      INTEGER NOT NULL,
    PRIMARY KEY (device_id, network_id)
) STRICT;
