//! Feeds what a peer may send that has proved who it is.

#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlan_plane::fuzzing::session(Instant::now(), data));
