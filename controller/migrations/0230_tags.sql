-- Tags that people give to devices. Auth keys carry those that their devices get at enrolment.

CREATE TABLE device_tags (
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    tag       TEXT NOT NULL,
    PRIMARY KEY (device_id, tag)
) STRICT;

CREATE TABLE auth_key_tags (
    key_id TEXT NOT NULL REFERENCES auth_keys (id) ON DELETE CASCADE,
    tag    TEXT NOT NULL,
    PRIMARY KEY (key_id, tag)
) STRICT;
