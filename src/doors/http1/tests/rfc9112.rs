//! The duties of an intermediary by RFC 9112; each test is named after its section.

use super::*;

mod bodies;

mod connections;

mod heads;
