//! What of a project is read without running it: Python modules, requirements files, pyproject.toml, pip.conf.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| checks::projects(input));
