//! The checks of the fuzz targets, with their seeds changed by chance: the same inputs at each run, compiled with
//! all other tests. `scripts/fuzz.sh` looks further, with libFuzzer.

#[path = "../../fuzz/checks.rs"]
mod checks;

use crate::machine::repository;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// How many inputs each check gets that looks at one thing, and one that looks at many.
const INPUTS: u32 = 10_000;
const INPUTS_OF_MANY: u32 = 2_500;

/// One change of an input.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize, usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        let place = |at: usize, length: usize| if length == 0 { 0 } else { at % length };
        match self {
            Self::Flip(at, by) if !to.is_empty() => {
                let at = place(*at, to.len());
                to[at] ^= by;
            }
            Self::Flip(..) => {}
            Self::Insert(at, bytes) => {
                let at = place(*at, to.len() + 1);
                to.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(*at, to.len());
                to.drain(at..(at + count).min(to.len()));
            }
            Self::Repeat(at, count, times) => {
                let at = place(*at, to.len());
                let part = to[at..(at + count).min(to.len())].repeat(*times);
                to.splice(at..at, part);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    // What parsers turn at, beside any bytes.
    let turning = prop::sample::select(vec![
        "\0",
        "\r",
        "\n",
        "\r\n",
        "\"",
        "\'",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "#",
        "=",
        ":",
        "/",
        "..",
        "*",
        "\u{feff}",
        "${",
        "-",
        "\u{1b}",
        "\u{2028}",
        "1e999",
        "18446744073709551616",
        "-1",
        "null",
        "true",
        "é",
    ]);
    let bytes = prop_oneof![
        3 => turning.prop_map(|text: &str| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..9),
    ];
    prop_oneof![
        (any::<usize>(), 1u8..).prop_map(|(at, by)| Change::Flip(at, by)),
        (any::<usize>(), bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<usize>(), 1usize..40).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<usize>(), 1usize..20, 1usize..60).prop_map(|(at, count, times)| Change::Repeat(at, count, times)),
    ]
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = repository().join("fuzz/corpus").join(target);
    let seeds: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty());
    seeds
}

/// Runs a check on the seeds of its target, and on what comes of them.
fn tried(target: &str, inputs: u32, check: impl Fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        check(seed);
    }
    let changed = (any::<prop::sample::Index>(), prop::collection::vec(change(), 0..8));
    let config = Config { cases: inputs, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&changed, |(seed, changes)| {
            let mut input = seed.get(&seeds).clone();
            for change in changes {
                change.apply(&mut input);
            }
            check(&input);
            Ok(())
        })
        .unwrap();
}

fn tried_with_text(target: &str, inputs: u32, check: impl Fn(&str)) {
    tried(target, inputs, |input| check(&String::from_utf8_lossy(input)));
}

#[test]
fn dotenv_files() {
    tried_with_text("dotenv", INPUTS, checks::environment);
}

#[test]
fn frames_of_replicas() {
    tried("frames", INPUTS, checks::frames);
}

#[test]
fn manifests() {
    tried_with_text("manifest", INPUTS, checks::manifests);
}

#[test]
fn names_hosts_and_numbers() {
    tried_with_text("names", INPUTS, checks::names);
}

#[test]
fn first_bytes_of_strangers() {
    tried("network", INPUTS, checks::network);
}

#[test]
fn what_of_a_project_is_read() {
    tried_with_text("project", INPUTS_OF_MANY, checks::projects);
}

#[test]
fn builds_that_are_sent() {
    assert!(seeds("builds").iter().all(|seed| checks::builds(seed)), "a seed is refused");
    tried("builds", INPUTS_OF_MANY, |input| {
        checks::builds(input);
    });
}
