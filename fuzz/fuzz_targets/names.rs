//! Names, hosts and numbers as people write them.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| checks::names(input));
