//! Decides what people may do to people: which organisation a login is for (`choice`), who may give
//! and take roles and places (`rank`), how many places there are (`room`), and whose login it is by
//! an identity provider (`sign_in`). Reads nothing: roles and numbers come in. What a role may do
//! with things is decided elsewhere.

pub(crate) mod choice;
pub(crate) mod rank;
pub(crate) mod room;
pub(crate) mod sign_in;
