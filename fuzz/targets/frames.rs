//! Feeds what a stranger may send to a relay.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlan_protocol::fuzzing::frames(data));
