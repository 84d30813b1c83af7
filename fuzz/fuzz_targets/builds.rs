//! What a command line sends to be built: nothing of it lies where it shall not.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    checks::builds(input);
});
