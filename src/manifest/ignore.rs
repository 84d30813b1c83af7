//! Which files of a project never enter an image.
//!
//! `.dockerignore` with Docker's own meaning (moby/patternmatcher: last match wins, `!` takes back
//! even below an excluded folder), else `.gitignore` with Git's: what is tracked is not ignored. On top of both, always: `.env` and
//! `.env.*` (but examples), `.git`, virtual environments, bytecode, `node_modules`, what LangGraph keeps beside a project
//! (`.langgraph_api`). A file of variables with another name (`prod.env`) is left out, too, unless Git tracks it or a
//! `!` line takes it back: one that a deploy named with `--env-file` is no part of the project for the next.

use crate::manifest::tracked::Tracked;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The rules for one folder that is copied into an image.
#[derive(Debug)]
pub struct IgnoreRules {
    root: PathBuf,
    kind: Kind,
    private: Vec<PathBuf>,
    /// Asked for when something is ignored.
    tracked: OnceCell<Tracked>,
    /// Folders that were looked at for what lies in them: why it is left out with the folder, or not.
    folders: HashMap<PathBuf, Option<Excluded>>,
}

#[derive(Debug)]
enum Kind {
    Docker(Vec<Pattern>),
    /// From the repository's root to the folder; those further down are added by [`IgnoreRules::descend`].
    Git(Vec<Gitignore>),
}

/// Why a path is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excluded {
    /// By `.dockerignore`.
    Dockerignore,
    /// By a `.gitignore`.
    Gitignore,
    /// By our own list.
    Always,
}

impl Excluded {
    /// What excludes it, as a message names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dockerignore => ".dockerignore",
            Self::Gitignore => ".gitignore",
            Self::Always => "rapidclaw (it may hold secrets or belongs to this machine)",
        }
    }
}

impl IgnoreRules {
    /// Reads the rules of `root`. The `private` files (relative or absolute) are left out too.
    pub fn load(root: &Path, private: &[PathBuf]) -> io::Result<Self> {
        let private = private.iter().map(|path| normalize(&root.join(path))).collect();
        let kind = match std::fs::read_to_string(root.join(".dockerignore")) {
            Ok(text) => Kind::Docker(parse_dockerignore(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kind::Git(gitignores(root)),
            Err(error) => return Err(error),
        };
        Ok(Self { root: root.to_owned(), kind, private, tracked: OnceCell::new(), folders: HashMap::new() })
    }

    /// Takes in the `.gitignore` of a folder below the root, where there is one and it counts.
    pub fn descend(&mut self, folder: &Path) {
        if let Kind::Git(list) = &mut self.kind
            && folder != self.root
            && folder.join(".gitignore").is_file()
            && !list.iter().any(|known| known.path() == folder)
        {
            list.push(Gitignore::new(folder.join(".gitignore")).0);
        }
    }

    /// Whether a folder that is left out need not be entered: nothing below it can be taken back.
    pub fn prunes(&self, why: Excluded) -> bool {
        match (&self.kind, why) {
            (Kind::Docker(patterns), Excluded::Dockerignore) => !patterns.iter().any(|pattern| pattern.negated),
            _ => true,
        }
    }

    /// Whether `path` (below the root, or relative to it) itself is left out. Of its parents only
    /// Docker's patterns and our own list are looked at: the walk does not enter what it left out.
    pub fn excludes(&self, path: &Path, is_dir: bool) -> Option<Excluded> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let full = self.root.join(relative);
        if always(relative) || (!self.private.is_empty() && self.private.contains(&normalize(&full))) {
            return Some(Excluded::Always);
        }
        if is_dir && full.join("pyvenv.cfg").is_file() {
            return Some(Excluded::Always);
        }
        let why = match &self.kind {
            Kind::Docker(patterns) => docker_excludes(patterns, relative).then_some(Excluded::Dockerignore),
            Kind::Git(list) => {
                let ignored = self.git_ignores(list, &full, is_dir);
                (ignored && !self.is_tracked(&full, is_dir)).then_some(Excluded::Gitignore)
            }
        };
        why.or_else(|| (!is_dir && self.is_variables(relative, &full)).then_some(Excluded::Always))
    }

    fn is_tracked(&self, full: &Path, is_dir: bool) -> bool {
        self.tracked.get_or_init(|| Tracked::below(&self.root)).holds(full, is_dir)
    }

    /// Whether it is a file of variables that nobody says is part of the project.
    fn is_variables(&self, relative: &Path, full: &Path) -> bool {
        if relative.extension().is_none_or(|end| end != "env") {
            return false;
        }
        let taken_back = match &self.kind {
            Kind::Docker(patterns) => last_match(patterns, relative).is_some_and(|pattern| pattern.negated),
            Kind::Git(list) => matches!(decision(list, full, false), Some(Match::Whitelist(_))),
        };
        !taken_back && !self.is_tracked(full, false)
    }

    /// Whether Git ignores the path, tracked or not.
    fn git_ignores(&self, list: &[Gitignore], full: &Path, is_dir: bool) -> bool {
        if matches!(decision(list, full, is_dir), Some(Match::Ignore(_))) {
            return true;
        }
        // A folder that is ignored is entered for what is tracked in it; all else in it is ignored as it is.
        let parent = full.parent().filter(|parent| self.tracked.get().is_some() && *parent != self.root);
        parent.is_some_and(|parent| parent.starts_with(&self.root) && self.git_ignores(list, parent, true))
    }

    /// The rule that leaves out what lies at `path`, as `FILE:LINE (PATTERN)`; none where it enters the image.
    pub fn rule(&mut self, path: &Path) -> Option<String> {
        let why = self.excludes_file(path)?;
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let found = match (&self.kind, why) {
            (_, Excluded::Always) => None,
            (Kind::Docker(patterns), _) => {
                let pattern = last_match(patterns, relative);
                pattern.map(|pattern| (self.root.join(".dockerignore"), pattern.text.clone()))
            }
            (Kind::Git(list), _) => {
                // The outermost of its folders that a rule leaves out, or itself.
                let full = self.root.join(relative);
                let places: Vec<&Path> = full.ancestors().take_while(|place| *place != self.root).collect();
                places.iter().rev().find_map(|place| match decision(list, place, *place != full) {
                    Some(Match::Ignore(glob)) => Some((glob.from()?.to_owned(), glob.original().to_owned())),
                    _ => None,
                })
            }
        };
        let Some((file, pattern)) = found else { return Some(why.as_str().to_owned()) };
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let line = text.lines().position(|line| line.trim() == pattern.trim());
        let shown = file.strip_prefix(&self.root).unwrap_or(&file).display().to_string();
        Some(match line {
            Some(line) => format!("{shown}:{} (`{pattern}`)", line + 1),
            None => format!("{shown} (`{pattern}`)"),
        })
    }

    /// Whether the file at `path` would not be copied, looking at all its parents as the walk does.
    pub fn excludes_file(&mut self, path: &Path) -> Option<Excluded> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let full = self.root.join(relative);
        let with_folder = full.parent().and_then(|folder| self.leaves_out(folder));
        with_folder.or_else(|| self.excludes(relative, false))
    }

    /// Why nothing in the folder is copied.
    fn leaves_out(&mut self, folder: &Path) -> Option<Excluded> {
        if folder == self.root || !folder.starts_with(&self.root) {
            return None;
        }
        if let Some(known) = self.folders.get(folder) {
            return *known;
        }
        let with_parent = folder.parent().and_then(|parent| self.leaves_out(parent));
        let why = with_parent.or_else(|| self.excludes(folder, true).filter(|why| self.prunes(*why)));
        if why.is_none() {
            self.descend(folder);
        }
        self.folders.insert(folder.to_owned(), why);
        why
    }
}

/// What the `.gitignore` files say of a path: the deepest that has an opinion decides.
fn decision<'r>(list: &'r [Gitignore], full: &Path, is_dir: bool) -> Option<Match<&'r Glob>> {
    let near = list.iter().rev().filter(|rules| full.starts_with(rules.path()));
    near.map(|rules| rules.matched(full, is_dir)).find(|found| !found.is_none())
}

/// What is left out whatever the files say.
fn always(relative: &Path) -> bool {
    relative.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        matches!(&*name, ".git" | "__pycache__" | "node_modules" | ".langgraph_api") || is_env_file(&name)
    }) || relative.extension().is_some_and(|extension| extension == "pyc")
}

/// `.env` and `.env.*`, but not the examples that are meant to be shared.
fn is_env_file(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(".env") else { return false };
    let shared = [".example", ".sample", ".template", ".dist"].iter().any(|end| rest.ends_with(end));
    rest.is_empty() || (rest.starts_with('.') && !shared)
}

/// `path` without `.` and `..`, not asking the disk.
pub(crate) fn normalize(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

/// The `.gitignore` files from the repository's root down to `root`.
fn gitignores(root: &Path) -> Vec<Gitignore> {
    let mut folders: Vec<&Path> = Vec::new();
    for folder in root.ancestors() {
        folders.push(folder);
        if folder.join(".git").exists() {
            break;
        }
    }
    if !folders.last().is_some_and(|top| top.join(".git").exists()) {
        folders.truncate(1);
    }
    let mut list = Vec::new();
    for folder in folders.into_iter().rev() {
        let mut builder = GitignoreBuilder::new(folder);
        if folder.join(".git").is_dir() {
            builder.add(folder.join(".git/info/exclude"));
        }
        if folder.join(".gitignore").is_file() {
            builder.add(folder.join(".gitignore"));
        }
        if let Ok(rules) = builder.build()
            && !rules.is_empty()
        {
            list.push(rules);
        }
    }
    list
}

/// One line of `.dockerignore`.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    parts: Vec<String>,
    negated: bool,
}

fn parse_dockerignore(text: &str) -> Vec<Pattern> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter_map(|text| {
            let (negated, line) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim()));
            let clean = normalize(Path::new(line.trim_start_matches('/')));
            let parts: Vec<String> =
                clean.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            (!parts.is_empty()).then(|| Pattern { text: text.to_owned(), parts, negated })
        })
        .collect()
}

fn docker_excludes(patterns: &[Pattern], relative: &Path) -> bool {
    last_match(patterns, relative).is_some_and(|pattern| !pattern.negated)
}

/// The last pattern that matches a path or one of its folders, which decides.
fn last_match<'p>(patterns: &'p [Pattern], relative: &Path) -> Option<&'p Pattern> {
    let parts: Vec<String> =
        relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let matches = |pattern: &&Pattern| (1..=parts.len()).any(|length| matches_parts(&pattern.parts, &parts[..length]));
    patterns.iter().rev().find(matches)
}

fn matches_parts(pattern: &[String], path: &[String]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => {
            // A last `**` wants something below; others match no folder as well.
            let least = usize::from(rest.is_empty());
            (least..=path.len()).any(|skipped| matches_parts(rest, &path[skipped..]))
        }
        Some((first, rest)) => path.split_first().is_some_and(|(name, below)| {
            let glob: Vec<char> = first.chars().collect();
            let name: Vec<char> = name.chars().collect();
            matches_glob(&glob, &name) && matches_parts(rest, below)
        }),
    }
}

/// Go's `filepath.Match` within one name: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
pub(crate) fn matches_glob(mut glob: &[char], mut name: &[char]) -> bool {
    // What follows the last `*`, and where in the name it was tried.
    let mut last: Option<(&[char], &[char])> = None;
    loop {
        if let Some(('*', rest)) = glob.split_first() {
            last = Some((rest, name));
            glob = rest;
        } else if glob.is_empty() && name.is_empty() {
            return true;
        } else if let Some(rest) = matches_one(glob, name.first().copied()) {
            (glob, name) = (rest, &name[1..]);
        } else {
            // The last `*` takes one more.
            let Some((rest, [_, further @ ..])) = last else { return false };
            last = Some((rest, further));
            (glob, name) = (rest, further);
        }
    }
}

/// What follows in the glob where its first element stands for this character.
fn matches_one(glob: &[char], one: Option<char>) -> Option<&[char]> {
    let one = one?;
    match glob {
        ['?', rest @ ..] => Some(rest),
        ['\\', escaped, rest @ ..] => (*escaped == one).then_some(rest),
        ['[', rest @ ..] => {
            let close = rest.iter().skip(1).position(|one| *one == ']').map(|at| at + 1)?;
            let (class, rest) = (&rest[..close], &rest[close + 1..]);
            let (negated, class) = class.strip_prefix(&['^']).map_or((false, class), |class| (true, class));
            (in_class(class, one) != negated).then_some(rest)
        }
        [literal, rest @ ..] => (*literal == one).then_some(rest),
        [] => None,
    }
}

fn in_class(class: &[char], wanted: char) -> bool {
    match class {
        [low, '-', high, rest @ ..] => (*low..=*high).contains(&wanted) || in_class(rest, wanted),
        [one, rest @ ..] => *one == wanted || in_class(rest, wanted),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker(text: &str, path: &str) -> bool {
        docker_excludes(&parse_dockerignore(text), Path::new(path))
    }

    #[test]
    fn dockerignore_means_what_docker_means() {
        for (text, path) in [
            ("secret.txt", "secret.txt"),
            ("/secret.txt", "secret.txt"),
            ("dir", "dir/a/b"),
            ("dir/", "dir/a"),
            ("*.md", "a.md"),
            ("*/temp*", "x/temp1"),
            ("**/*.log", "a/b/c.log"),
            ("**/*.log", "c.log"),
            ("a/**", "a/b"),
            ("te?t", "test"),
            ("[a-c]x", "bx"),
            ("[^a]x", "bx"),
            ("./a", "a"),
            ("a/../b", "b"),
            ("*\n!keep\nkeep/no", "keep/no"),
            ("a\\*", "a*"),
            ("*", ".hidden"),
        ] {
            assert!(docker(text, path), "{text:?} should exclude {path}");
        }
        for (text, path) in [
            ("secret.txt", "dir/secret.txt"),
            ("*.md", "dir/a.md"),
            ("*/temp*", "temp1"),
            ("*\n!keep", "keep/a"),
            ("dir\n!dir/keep", "dir/keep"),
            ("a/**", "a"),
            ("# a", "a"),
            (" #a", "a"),
            ("", "a"),
            ("a\\*", "ab"),
        ] {
            assert!(!docker(text, path), "{text:?} should not exclude {path}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_is_decided_at_once() {
        assert!(!docker(&"*a".repeat(60), &format!("{}b", "a".repeat(250))));
        assert!(docker(&"*a".repeat(60), &"a".repeat(250)));
        assert!(docker("a*b*c", "axbxbxc") && !docker("a*b*c", "axbxbxcx"));
    }

    #[test]
    fn gitignore_counts_where_there_is_no_dockerignore() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        std::fs::create_dir_all(root.join("app/sub")).unwrap();
        std::fs::write(root.join(".gitignore"), "*.db\nbuild/\n").unwrap();
        std::fs::write(root.join("app/sub/.gitignore"), "!keep.db\nlocal.py\n").unwrap();
        let mut rules = IgnoreRules::load(&root.join("app"), &[]).unwrap();
        let mut excluded = |path: &str| rules.excludes_file(Path::new(path));
        assert_eq!(excluded("x.db"), Some(Excluded::Gitignore));
        assert_eq!(excluded("build/x.py"), Some(Excluded::Gitignore));
        assert_eq!(excluded("sub/local.py"), Some(Excluded::Gitignore));
        assert_eq!(excluded("sub/keep.db"), None);
        assert_eq!(excluded("local.py"), None);
        std::fs::write(root.join("app/.dockerignore"), "local.py\n").unwrap();
        let mut rules = IgnoreRules::load(&root.join("app"), &[]).unwrap();
        assert_eq!(rules.excludes_file(Path::new("local.py")), Some(Excluded::Dockerignore));
        assert_eq!(rules.excludes_file(Path::new("x.db")), None);
    }

    #[test]
    fn what_git_tracks_is_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let files = [
            "pkg/lib/util.py",
            "pkg/lib/other.py",
            "pkg/gen_pb2.py",
            "data/kept.json",
            "data/deep/kept.txt",
            "data/left.json",
        ];
        for file in files.iter().chain(&[".env", "pkg/lib/x.pyc"]) {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        std::fs::write(root.join(".gitignore"), "lib/\n*_pb2.py\ndata/\n").unwrap();
        let git = |arguments: &[&str]| {
            let done = std::process::Command::new("git").arg("-C").arg(root).args(arguments).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        git(&["init", "-q"]);
        git(&["add", "-f", "pkg/lib/util.py", "data/kept.json", "data/deep/kept.txt", ".env"]);
        let mut rules = IgnoreRules::load(root, &[]).unwrap();
        let excluded = files.map(|file| rules.excludes_file(Path::new(file)));
        let left = Some(Excluded::Gitignore);
        assert_eq!(excluded, [None, left, left, None, None, left]);
        // A file of variables is part of the project where Git says so.
        std::fs::write(root.join("kept.env"), "").unwrap();
        git(&["add", "kept.env"]);
        let mut rules = IgnoreRules::load(root, &[]).unwrap();
        assert_eq!(rules.excludes_file(Path::new("kept.env")), None);
        assert_eq!(rules.excludes_file(Path::new("left.env")), Some(Excluded::Always));
        // What may hold secrets stays out, whoever tracks it.
        for file in [".env", "pkg/lib/x.pyc", ".langgraph_api/.langgraph_ops.pckl"] {
            assert_eq!(rules.excludes_file(Path::new(file)), Some(Excluded::Always), "{file}");
        }
        // A folder of the repository, too.
        let mut below = IgnoreRules::load(&root.join("pkg"), &[]).unwrap();
        assert_eq!(["lib/util.py", "lib/other.py"].map(|file| below.excludes_file(Path::new(file))), [None, left]);
    }

    #[test]
    fn secrets_and_machines_own_files_are_always_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("myenv/lib")).unwrap();
        std::fs::write(root.join("myenv/pyvenv.cfg"), "").unwrap();
        std::fs::write(root.join(".dockerignore"), "!.env\n!**/.env\n!config/kept.env\n").unwrap();
        let mut rules = IgnoreRules::load(root, &["./config/prod.env".into()]).unwrap();
        for path in [
            ".env",
            "sub/.env",
            ".env.local",
            ".git/config",
            "a/__pycache__/x.pyc",
            "node_modules/x/y.js",
            "myenv/lib/x.py",
            "config/prod.env",
            "staging.env",
            "x.pyc",
        ] {
            assert_eq!(rules.excludes_file(Path::new(path)), Some(Excluded::Always), "{path}");
        }
        for path in [".env.example", ".envrc", "environment.py", ".gitignore", "src/env.py", "config/kept.env"] {
            assert_eq!(rules.excludes_file(Path::new(path)), None, "{path}");
        }
    }
}
