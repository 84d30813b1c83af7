//! What a requirements file asks for that no image can have, named before anything is built.

use super::diagnostic::{Diagnostic, Severity};
use super::ignore::normalize;
use super::lower_bound;
use super::requirement_line::{Line, classify, places};
use std::path::{Path, PathBuf};

/// How many files are followed.
const MOST_FILES: usize = 64;

/// Reads the requirements.txt of `folder`, and what it includes. `shown` is how the folder is named. Where the folder
/// is a package, a requirements.txt in it is not what is installed: the caller knows.
pub(super) fn check(folder: &Path, shown: &str) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let mut pending = vec![PathBuf::from("requirements.txt")];
    let mut seen: Vec<PathBuf> = Vec::new();
    while let Some(file) = pending.pop().filter(|_| seen.len() < MOST_FILES) {
        let Ok(text) = std::fs::read_to_string(folder.join(&file)) else { continue };
        seen.push(file.clone());
        for (number, line) in text.lines().enumerate() {
            let mut fault = |code: &'static str, message: String, fix: &str| {
                let name = Path::new(shown).join(&file).display().to_string();
                faults.push(Diagnostic {
                    severity: Severity::Error,
                    code,
                    message,
                    file: name.trim_start_matches("./").to_owned(),
                    line: number + 1,
                    column: 1,
                    length: line.chars().count().max(1),
                    fix: Some(fix.to_owned()),
                    // An address may hold a login.
                    snippet: Some(line.to_owned()).filter(|line| !line.contains("://")),
                });
            };
            match classify(line) {
                Line::Include(name) => {
                    let [beside, _] = places(&file, name);
                    if !seen.contains(&beside) && !pending.contains(&beside) {
                        pending.push(beside);
                    }
                }
                Line::Named(head, path) if !is_there(folder, &file, path) => {
                    let message = format!("{head} is installed from {path}, which the project does not hold");
                    fault(
                        "requirement-elsewhere",
                        message,
                        "write its version: `NAME==VERSION` (conda writes such paths)",
                    );
                }
                Line::Local(path) if path.starts_with('/') && !is_there(folder, &file, path) => {
                    let message = format!("{path} is a place of this machine, which no image has");
                    fault("requirement-elsewhere", message, "write the path relative to the file");
                }
                Line::Refused(why) => fault(
                    "requirement-refused",
                    format!("this line cannot be installed: {why}"),
                    "name a release of the package, or its archive",
                ),
                Line::Other if is_old_langgraph(line) => fault(
                    "langgraph-too-old",
                    format!(
                        "rapidclaw itself needs LangGraph {} or newer, and this line admits none",
                        lower_bound::lowest()
                    ),
                    "ask for a newer one: `langgraph>=1,<2`",
                ),
                _ => {}
            }
        }
    }
    faults.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    faults
}

/// Whether the project has the path, relative or as this machine names it.
fn is_there(folder: &Path, file: &Path, path: &str) -> bool {
    let mut places = places(file, path).into_iter().map(|place| normalize(&folder.join(place)));
    places.any(|place| place.starts_with(folder) && place.exists())
}

/// `langgraph<0.6`, `langgraph==0.2.*`
fn is_old_langgraph(line: &str) -> bool {
    lower_bound::specifier(line).is_some_and(lower_bound::admits_older_alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_image_can_have_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let here = folder.path().join("wheels/y-1.whl");
        write("wheels/y-1.whl", "");
        write(
            "requirements.txt",
            &format!(
                "# all\n-r req/more.txt\nlanggraph<0.6\nnumpy @ file:///croot/numpy/dist/numpy-1.0.whl\ny @ file:{}\nz @ file:./wheels/y-1.whl\n/srv/lib\n",
                here.display()
            ),
        );
        write("req/more.txt", "-e hg+https://ann:pw@h/x#egg=x\n-r ../requirements.txt\nlanggraph[x] >=0.2, <1\n");
        let faults = check(folder.path(), "./app");
        let found: Vec<(&str, usize, &str)> =
            faults.iter().map(|fault| (fault.file.as_str(), fault.line, fault.code)).collect();
        let want = [
            ("app/req/more.txt", 1, "requirement-refused"),
            ("app/requirements.txt", 3, "langgraph-too-old"),
            ("app/requirements.txt", 4, "requirement-elsewhere"),
            ("app/requirements.txt", 7, "requirement-elsewhere"),
        ];
        assert_eq!(found, want);
        assert!(!faults.iter().any(|fault| fault.to_string().contains("ann:pw")));
        for (line, old) in [
            ("langgraph", false),
            ("langgraph==0.5.4", true),
            ("langgraph~=0.5", false),
            ("langgraph<1", false),
            ("langgraph-sdk<0.2", false),
            ("LangGraph<=0.5 ; x", true),
            ("langgraph @ https://h/x", false),
            ("langgraph==0.6.*", false),
        ] {
            assert_eq!(is_old_langgraph(line), old, "{line}");
        }
    }
}
