//! Dotenv files: names that a process can have, values without NUL.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rapidclaw::base::secret::ExposeSecret as _;
use rapidclaw::manifest::dotenv;

fuzz_target!(|text: &str| {
    match dotenv::parse(text) {
        Ok(values) => {
            for (name, value) in &values {
                assert!(!name.is_empty() && !name.contains(['=', '\0']), "{name:?}");
                assert!(!value.expose_secret().contains('\0'), "{name:?}");
            }
        }
        // A carriage return alone ends a line, too.
        Err((line, _)) => assert!(line >= 1 && line <= text.split(['\n', '\r']).count()),
    }
});
