//! The manifest: whatever the text, it is judged without a panic, and what is said of it points into it.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| checks::manifests(input));
