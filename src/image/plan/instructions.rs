//! Instructions that a server does not have its engine follow: the engine carries them out itself, on its machine's
//! network and with all its images, and not in a step that is walled in. Pure.

use crate::api::builds::Recipe;
use std::collections::BTreeSet;

/// What is wrong with the instructions, where `base_image` is what the first stage stands on.
pub fn check(recipe: &Recipe, base_image: &str) -> Result<(), String> {
    if is_hidden(base_image) {
        return Err(format!("{base_image:?} names an image by its id, or one of an agent's"));
    }
    let lines: Vec<&str> = recipe.steps.iter().map(|step| step.instruction.as_str()).collect();
    let text = lines.join("\n");
    // A comment on top may say that lines go on with another character; a mark of UTF-8 before it counts for nothing.
    if text.trim_start_matches(|one: char| one == '\u{feff}' || one.is_whitespace()).starts_with('#') {
        return Err("the Dockerfile begins with a comment".to_owned());
    }
    let mut stages: BTreeSet<String> = BTreeSet::new();
    for line in logical_lines(&text) {
        let mut words = line.split_whitespace().peekable();
        while words.next_if(|word| word.eq_ignore_ascii_case("ONBUILD")).is_some() {}
        let Some(first) = words.next() else { continue };
        let words: Vec<&str> = words.collect();
        if first.eq_ignore_ascii_case("ADD") {
            if !is_plain_add(&words) {
                return Err(format!("`{line}`: ADD takes plain files of the project; use COPY, or RUN with curl"));
            }
        } else if first.eq_ignore_ascii_case("COPY") {
            let named = words.iter().take_while(|word| word.starts_with("--"));
            for from in named.filter_map(|word| word.strip_prefix("--from=")) {
                if !stages.contains(&from.to_ascii_lowercase()) && (is_hidden(from) || from.contains('$')) {
                    return Err(format!("`{line}`: it names an image by its id, or one of an agent's"));
                }
            }
        } else if first.eq_ignore_ascii_case("FROM") {
            let mut words = words.iter().skip_while(|word| word.starts_with("--"));
            let image = words.next().copied().unwrap_or_default();
            let is_first = stages.is_empty() && image == base_image;
            if !is_first && !stages.contains(&image.to_ascii_lowercase()) {
                return Err(format!("`{line}`: stages of other images are not built on the server"));
            }
            match (words.next(), words.next()) {
                (Some(word), Some(name)) if word.eq_ignore_ascii_case("AS") => {
                    stages.insert(name.to_ascii_lowercase());
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Lines as the builder puts them together: a backslash at the end goes on, comments and empty lines between do not
/// count.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') || (trimmed.is_empty() && !open.is_empty()) {
            continue;
        }
        match line.trim_end().strip_suffix('\\') {
            Some(begun) => open += begun,
            None => {
                open += line;
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    lines.push(open);
    lines
}

/// Whether nothing of it can become an address: no variable, no quotes, no escapes, none itself.
fn is_plain_add(words: &[&str]) -> bool {
    words.iter().all(|word| {
        let is_plain = |one: char| one.is_alphanumeric() || "._/-*?@:,=+~%".contains(one);
        word.chars().all(is_plain) && !word.contains("://")
    })
}

/// Whether it names an image by (a part of) its id, or one that belongs to an agent.
fn is_hidden(image: &str) -> bool {
    let image = image.to_ascii_lowercase();
    // A stage may be named by its number.
    let is_number = image.len() < 4 && image.bytes().all(|byte| byte.is_ascii_digit());
    let is_id = !is_number && image.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id || image.starts_with("sha256:") || image.contains("rapidclaw/") || image.contains("rapidclaw-deps")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::builds::RecipeStep;

    fn judged(lines: &[&str]) -> Result<(), String> {
        let own = ["FROM python:3.12-slim AS rapidclaw-base"];
        let rest = [
            "FROM rapidclaw-base AS rapidclaw-deps",
            "FROM rapidclaw-base AS rapidclaw-ready",
            "COPY --from=rapidclaw-deps /opt/venv /opt/venv",
            "FROM rapidclaw-ready",
            "COPY .rapidclaw/app /deps",
        ];
        let all = own.iter().chain(lines).chain(&rest);
        let steps =
            all.map(|line| RecipeStep { title: String::new(), instruction: (*line).to_owned(), dependencies: false });
        let recipe = Recipe {
            steps: steps.collect(),
            ready: 1,
            files: Vec::new(),
            workdir: "/deps".into(),
            notes: Vec::new(),
            pythons: Vec::new(),
            described: false,
        };
        check(&recipe, "python:3.12-slim")
    }

    #[test]
    fn what_projects_ask_for_is_followed() {
        let lines = [
            "RUN apt-get update && apt-get install -y git",
            "# ADD http://x /y",
            "ADD data.tar.gz /data/",
            "COPY --from=ghcr.io/astral-sh/uv:latest /uv /bin/",
            "ENV A=http://x",
            "RUN echo ADD \\\n  http://x",
            "COPY --chown=1:1 a b",
            "add a/*.txt /b/",
        ];
        judged(&lines).unwrap();
    }

    #[test]
    fn nothing_that_the_engine_fetches_or_reads_itself() {
        for line in [
            "ADD http://169.254.169.254/latest/meta-data /x",
            "  add HTTPS://10.0.0.1/ /x",
            "ADD $WHERE /x",
            "AD\\\nD http://x /y",
            "RUN true\nADD http://x /y",
            "ADD [\"http:\\u002f\\u002fx\", \"/y\"]",
            "ADD h\"ttp:/\"/x /y",
            "ADD --chown=1:1 \\\n# a comment\n\n http://x /y",
            "ONBUILD ADD http://x /y",
            "onbuild onbuild add http://x /y",
            "FROM other AS rapidclaw-other",
            "FROM $X",
            "COPY --from=rapidclaw/other:0123456789ab /deps /x",
            "COPY --from=docker.io/rapidclaw/other /deps /x",
            "COPY --from=0123456789ab /deps /x",
            "COPY --from=sha256:00 /deps /x",
            "COPY --chown=1:1 --from=$X /deps /x",
        ] {
            judged(&[line]).unwrap_err();
        }
        let recipe = Recipe {
            steps: Vec::new(),
            ready: 1,
            files: Vec::new(),
            workdir: "/deps".into(),
            notes: Vec::new(),
            pythons: Vec::new(),
            described: false,
        };
        for base in ["rapidclaw/other:1", "rapidclaw-deps:1", "sha256:00", "abcdef012345"] {
            check(&recipe, base).unwrap_err();
        }
        for top in ["# escape=`", "\u{feff}# escape=`\nFROM python:3.12-slim AS rapidclaw-base", "\n #escape=`"] {
            let top = RecipeStep { title: String::new(), instruction: top.into(), dependencies: false };
            check(&Recipe { steps: vec![top], ..recipe.clone() }, "python:3.12-slim").unwrap_err();
        }
    }
}
