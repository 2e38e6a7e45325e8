//! Overlan client library.
