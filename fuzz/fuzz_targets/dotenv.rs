//! Dotenv files: names that a process can have, values without NUL.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| checks::environment(input));
