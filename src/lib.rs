//! Overlan client library.

pub mod tunnel;
