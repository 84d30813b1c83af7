//! What a line of a requirements file asks for (pip's documentation, "Requirements File Format"), read as pip reads
//! it: also where uv does not take it so.

use std::path::Path;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'l> {
    /// `-r FILE`, `-c FILE`
    Include(&'l str),
    /// A path, editable or not.
    Local(&'l str),
    /// `NAME[EXTRAS] @ file:PATH`: what stands before the `@`, and the path.
    Named(&'l str, &'l str),
    /// `-e git+URL#egg=NAME`, which uv takes without the `-e` alone: what it takes.
    Rewritten(String),
    /// `--find-links FOLDER`
    FindLinks(&'l str),
    /// What no installer of an image can do; why.
    Refused(&'static str),
    /// Anything else: the installer reads it.
    Other,
}

/// Files that a package may be installed from (PEP 427, PEP 625, and what pip takes beside).
const ARCHIVES: [&str; 7] = [".whl", ".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".tar"];
/// Version control that pip knows and uv does not.
const OTHER_VCS: [&str; 3] = ["bzr+", "hg+", "svn+"];

/// Whether a path names an archive rather than a folder.
pub fn is_archive(path: &str) -> bool {
    ARCHIVES.iter().any(|ending| path.ends_with(ending))
}

/// Tells what a line asks for.
pub fn classify(line: &str) -> Line<'_> {
    let line = line.split(" #").next().unwrap_or_default().trim();
    if line.starts_with('#') {
        return Line::Other;
    }
    for (short, long) in [("-r", "--requirement"), ("-c", "--constraint")] {
        if let Some(name) = argument(line, short, long) {
            return if name.contains("://") { Line::Other } else { Line::Include(name) };
        }
    }
    if let Some(place) = argument(line, "-f", "--find-links") {
        return if place.contains("://") { Line::Other } else { Line::FindLinks(place) };
    }
    let editable = argument(line, "-e", "--editable");
    let target = editable.unwrap_or(line);
    if OTHER_VCS.iter().any(|vcs| target.starts_with(vcs) || target.contains(&format!("@ {vcs}"))) {
        return Line::Refused("only Git is spoken when an image is built");
    }
    if let Some((head, url)) = target.split_once('@').filter(|(head, _)| is_head(head)) {
        return url
            .trim()
            .strip_prefix("file:")
            .map_or(Line::Other, |path| Line::Named(head.trim_end(), without_host(path)));
    }
    if editable.is_some() && target.starts_with("git+") {
        return named_by_egg(target);
    }
    let path = target.strip_prefix("file:").map_or(target, without_host);
    let is_path = path.starts_with(['.', '/'])
        || path.len() != target.len()
        || (!target.contains("://") && is_archive(path))
        || (editable.is_some() && !target.contains("://") && !target.contains('+'));
    if is_path { Line::Local(path.split('[').next().unwrap_or(path)) } else { Line::Other }
}

/// What stands behind an option, with or without a space.
fn argument<'l>(line: &'l str, short: &str, long: &str) -> Option<&'l str> {
    let rest = match line.strip_prefix(long) {
        Some(rest) => Some(rest).filter(|rest| rest.starts_with([' ', '=', '\t'])),
        None => line.strip_prefix(short).filter(|rest| !rest.starts_with('-')),
    };
    rest.map(|rest| rest.trim_start_matches([' ', '=', '\t'])).filter(|rest| !rest.is_empty())
}

/// Whether a text is a name, with extras or without (PEP 508).
fn is_head(text: &str) -> bool {
    let name = text.trim_end();
    let name = name.strip_suffix(']').and_then(|name| name.split_once('[')).map_or(name, |(name, _)| name).trim_end();
    !name.is_empty()
        && name.chars().all(|one| one.is_ascii_alphanumeric() || "._-".contains(one))
        && !name.starts_with('.')
}

/// The path of a `file:` URL (RFC 8089).
fn without_host(path: &str) -> &str {
    path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path)
}

/// `git+URL#egg=NAME&subdirectory=FOLDER` as PEP 508 has it.
fn named_by_egg(target: &str) -> Line<'_> {
    let (url, fragment) = target.split_once('#').unwrap_or((target, ""));
    let mut name = None;
    let mut rest = Vec::new();
    for part in fragment.split('&').filter(|part| !part.is_empty()) {
        match part.strip_prefix("egg=") {
            Some(egg) => name = Some(egg).filter(|egg| is_head(egg)),
            None => rest.push(part),
        }
    }
    let Some(name) = name else { return Line::Refused("a repository needs its package's name: add #egg=NAME") };
    let fragment = if rest.is_empty() { String::new() } else { format!("#{}", rest.join("&")) };
    Line::Rewritten(format!("{name} @ {url}{fragment}"))
}

/// Where a path of a requirements file may lie: beside the file, or (as pip has it) where pip is called, in the
/// project's folder. Relative to that folder.
pub fn places(file: &Path, path: &str) -> [std::path::PathBuf; 2] {
    let folder = file.parent().unwrap_or(Path::new(""));
    [folder.join(path), path.into()].map(|place| crate::manifest::ignore::normalize(&place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_pip_reads_them() {
        for (text, line) in [
            ("-r base.txt", Line::Include("base.txt")),
            ("-rbase.txt", Line::Include("base.txt")),
            ("--requirement=base.txt # x", Line::Include("base.txt")),
            ("-chttps://h/c.txt", Line::Other),
            ("--constraint limits.txt", Line::Include("limits.txt")),
            ("-e .", Line::Local(".")),
            ("-e.", Line::Local(".")),
            ("--editable ./lib[x]", Line::Local("./lib")),
            ("wheels/x-1-py3-none-any.whl", Line::Local("wheels/x-1-py3-none-any.whl")),
            ("x-1.tar.gz", Line::Local("x-1.tar.gz")),
            ("https://h/x-1.whl", Line::Other),
            ("file:///srv/x", Line::Local("/srv/x")),
            ("x @ file:./x-1.whl", Line::Named("x", "./x-1.whl")),
            (
                "numpy[a] @ file:///croot/numpy/dist/numpy-1.0-py3-none-any.whl",
                Line::Named("numpy[a]", "/croot/numpy/dist/numpy-1.0-py3-none-any.whl"),
            ),
            ("x@file://localhost/a", Line::Named("x", "/a")),
            ("x @ git+https://h/x@1", Line::Other),
            ("-e git+https://h/x@1.16.0#egg=six", Line::Rewritten("six @ git+https://h/x@1.16.0".into())),
            (
                "-e git+ssh://git@h/x.git@main#subdirectory=d&egg=a_b[c]",
                Line::Rewritten("a_b[c] @ git+ssh://git@h/x.git@main#subdirectory=d".into()),
            ),
            ("-f ./wheels", Line::FindLinks("./wheels")),
            ("--find-links=https://h/w", Line::Other),
            ("six>=1 ; python_version > '3' # -r x", Line::Other),
            ("--extra-index-url https://h/simple", Line::Other),
            ("# -r x", Line::Other),
            ("", Line::Other),
        ] {
            assert_eq!(classify(text), line, "{text}");
        }
        for text in ["-e git+https://h/x@1", "hg+https://h/x#egg=a", "a @ svn+https://h/x"] {
            assert!(matches!(classify(text), Line::Refused(_)), "{text}");
        }
    }
}
