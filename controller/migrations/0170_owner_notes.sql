-- The note of the auth key that enrolled a device says to people whose it is. Keys are forgotten some time after their end; devices stay.
ALTER TABLE devices ADD COLUMN key_note TEXT NOT NULL DEFAULT '';
UPDATE devices SET key_note = coalesce((SELECT note FROM auth_keys k WHERE k.id = devices.auth_key), '');
