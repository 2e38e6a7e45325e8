//! `overlan demo` as a user runs it.
