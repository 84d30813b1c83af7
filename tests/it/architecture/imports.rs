//! Which module imports which, by whatever spelling, and the circles among them.

use super::code::{Code, Path};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many re-exports may lead to a name.
const DEPTH: usize = 16;

/// A module's file uses what another one defines.
#[derive(Debug, Clone)]
pub struct Import {
    pub from: Path,
    pub to: Path,
    /// As it is written.
    pub text: String,
    pub place: String,
}

/// All imports between files. A module that re-exports what is below it and does not use it imports nothing by that.
pub fn imports(code: &Code) -> Vec<Import> {
    let mut found = Vec::new();
    for (path, module) in &code.modules {
        for declared in &module.uses {
            let Some((to, _)) = resolve(code, path, &declared.segments, DEPTH) else { continue };
            let is_below = code.modules[&to].file.starts_with(&module.file);
            if declared.is_public && is_below && !module.identifiers.contains(&declared.name) {
                continue;
            }
            found.extend(import(code, path, &to, &declared.segments, &declared.place));
        }
    }
    for mention in &code.mentions {
        if let Some((to, _)) = resolve(code, &mention.module, &mention.segments, DEPTH) {
            found.extend(import(code, &mention.module, &to, &mention.segments, &mention.place));
        }
    }
    found
}

fn import(code: &Code, from: &Path, to: &Path, segments: &Path, place: &str) -> Option<Import> {
    let (from, to) = (code.modules[from].file.clone(), code.modules[to].file.clone());
    (from != to).then(|| Import { from, to, text: segments.join("::"), place: place.to_owned() })
}

/// The module that defines what a path in a module names, through re-exports, and whether it names the module itself.
/// Nothing for what another crate defines.
fn resolve(code: &Code, module: &Path, segments: &[String], depth: usize) -> Option<(Path, bool)> {
    let depth = depth.checked_sub(1)?;
    let mut at = module.clone();
    let mut rest = segments;
    match segments.first()?.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            while rest.get(1).is_some_and(|next| next == "super") {
                at.pop();
                rest = &rest[1..];
            }
            at.pop();
        }
        _ => rest = &[],
    }
    // Only a path that says where it begins is known to be of this crate.
    let mut is_own = !rest.is_empty();
    rest = if is_own { &rest[1..] } else { segments };
    while let Some((name, after)) = rest.split_first() {
        let child: Path = at.iter().chain([name]).cloned().collect();
        let found = code.modules.get(&at)?;
        let declared = found.uses.iter().find(|declared| declared.name == *name && declared.segments != [name.clone()]);
        if code.modules.contains_key(&child) {
            at = child;
        } else if let Some(declared) = declared {
            let (target, is_module) = resolve(code, &at, &declared.segments, depth)?;
            if !is_module {
                return Some((target, false));
            }
            at = target;
        } else if found.items.contains(name) {
            return Some((at, false));
        } else {
            let globs = found.uses.iter().filter(|declared| declared.name == "*");
            let opened = globs.filter_map(|declared| resolve(code, &at, &declared.segments, depth));
            let defined = |(target, is_module): &(Path, bool)| *is_module && code.modules[target].items.contains(name);
            let target = opened.into_iter().find(defined).map(|(target, _)| (target, false));
            return target.or_else(|| is_own.then_some((at, false)));
        }
        is_own = true;
        rest = after;
    }
    Some((at, true))
}

/// The circles: between files, and between what lies in one folder, each with all that is below it. Each is told as
/// its shortest, with the places that make it.
pub fn circles(imports: &[Import]) -> Vec<String> {
    let mut found: Vec<String> =
        circles_of(imports.iter().map(|import| (import.from.clone(), import.to.clone(), import)));
    let folders: BTreeSet<&[String]> =
        imports.iter().flat_map(|import| (0..import.from.len()).map(|end| &import.from[..end])).collect();
    for folder in folders {
        let depth = folder.len() + 1;
        let inside = imports.iter().filter_map(|import| {
            let (from, to) = (import.from.get(..depth)?, import.to.get(..depth)?);
            let is_inside = from != to && from.starts_with(folder) && to.starts_with(folder);
            is_inside.then(|| (from.to_vec(), to.to_vec(), import))
        });
        found.extend(circles_of(inside));
    }
    found.sort();
    found.dedup();
    found
}

fn circles_of<'a>(edges: impl Iterator<Item = (Path, Path, &'a Import)>) -> Vec<String> {
    let mut graph: BTreeMap<Path, BTreeMap<Path, &Import>> = BTreeMap::new();
    for (from, to, import) in edges {
        graph.entry(from).or_default().entry(to).or_insert(import);
    }
    let mut told: BTreeSet<Path> = BTreeSet::new();
    let mut circles = Vec::new();
    for start in graph.keys() {
        if told.contains(start) {
            continue;
        }
        let Some(circle) = shortest_circle(&graph, start) else { continue };
        let steps: Vec<String> = circle
            .windows(2)
            .map(|pair| {
                let import = graph[&pair[0]][&pair[1]];
                format!("  {} -> {} ({}: {})", pair[0].join("::"), pair[1].join("::"), import.place, import.text)
            })
            .collect();
        told.extend(circle);
        circles.push(format!("a circle:\n{}", steps.join("\n")));
    }
    circles
}

/// From a module over others back to it.
fn shortest_circle(graph: &BTreeMap<Path, BTreeMap<Path, &Import>>, start: &Path) -> Option<Vec<Path>> {
    let mut queue = VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = queue.pop_front() {
        for next in way.last().and_then(|last| graph.get(last)).into_iter().flat_map(BTreeMap::keys) {
            let longer: Vec<Path> = way.iter().chain([next]).cloned().collect();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                queue.push_back(longer);
            }
        }
    }
    None
}
