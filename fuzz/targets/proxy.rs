//! Feeds what a local program, or a service, may send to the proxy.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlan::fuzzing::proxy(data));
