-- Auth keys for a number of uses, from some addresses only, and with a time after which their ephemeral devices are removed.
ALTER TABLE auth_keys ADD COLUMN max_uses INTEGER;
-- Ranges joined by commas; empty is everywhere.
ALTER TABLE auth_keys ADD COLUMN sources TEXT NOT NULL DEFAULT '';
ALTER TABLE auth_keys ADD COLUMN ephemeral_secs INTEGER;
