//! Feeds what an administrator may send as a policy, and compiles what means something.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlan_policy::fuzzing::policy(data));
