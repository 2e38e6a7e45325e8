-- The name of the network that a device wishes for a host behind it; and once that was approved, the absolute name whose record it is.
ALTER TABLE routes ADD COLUMN name TEXT;
ALTER TABLE routes ADD COLUMN record TEXT;
