//! The manifest: whatever the text, it is judged without a panic, and what is said of it points into it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rapidclaw::manifest::{self, Manifest, render};

fuzz_target!(|text: &str| {
    match manifest::parse(text, "langgraph.json", "folder") {
        Ok(loaded) => {
            assert!(!loaded.manifest.graphs.is_empty());
            assert!(manifest::is_name(&loaded.manifest.name), "{:?}", loaded.manifest.name);
            assert!(loaded.warnings.iter().all(|fault| !fault.is_error()));
            let _ = loaded.manifest.not_enforced();
            // A server reads what the CLI sends: the same manifest again.
            let again = Manifest::from_json(&loaded.manifest.raw, &loaded.manifest.name);
            let again = again.unwrap_or_else(|faults| panic!("{}", render(&faults)));
            assert_eq!(again.section, loaded.manifest.section);
            assert_eq!(again.graphs, loaded.manifest.graphs);
            assert_eq!(again.dependencies, loaded.manifest.dependencies);
        }
        Err(faults) => {
            assert!(faults.iter().any(manifest::Diagnostic::is_error));
            let lines = text.lines().count().max(1) + 1;
            for fault in &faults {
                assert!((1..=lines).contains(&fault.line) && fault.column >= 1 && fault.length >= 1, "{fault:?}");
            }
            let _ = render(&faults);
        }
    }
});
