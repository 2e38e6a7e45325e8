//! Programs that are started by their users without privileges.
