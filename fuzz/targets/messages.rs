//! Feeds what a relay may send to a device.

#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlan_plane::fuzzing::messages(Instant::now(), data));
