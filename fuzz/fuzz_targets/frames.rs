//! Frames of replicas: whatever a compromised one sends, it is a frame or an error.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::frames(input));
