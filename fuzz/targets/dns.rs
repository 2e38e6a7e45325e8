//! Feeds what a local program may ask, and what a resolver may answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlan::fuzzing::dns(data));
