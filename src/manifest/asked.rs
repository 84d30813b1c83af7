//! What a project's sources ask for that a replica has otherwise, named with its place before anything is built.

use super::diagnostic::{Diagnostic, Severity, Source, Span};
use super::files::Files;
use super::{EnvSource, Manifest, dotenv, elsewhere, folders, sources, store};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Places of one kind that are named; more of them are mended by the same change.
const NAMED: usize = 5;

/// Reads the project's sources, each once.
pub(super) fn check(
    manifest: &Manifest,
    folder: &Path,
    (sources, files): (&[sources::Source], &mut Files),
) -> Vec<Diagnostic> {
    let variables = variables(manifest, folder);
    let is_set = |name: &str| variables.as_ref().is_some_and(|known| known.iter().any(|one| one == name));
    // A key that is not there yet may be set by hand.
    let has_key = variables.is_none() || elsewhere::keys().any(is_set);
    let has_gateway = manifest.section.models.gateway && has_key;
    let mut calls: Vec<Diagnostic> = Vec::new();
    let mut asks: Option<Diagnostic> = None;
    // Looked into where a store is asked for.
    let mut may_bring: Vec<PathBuf> = Vec::new();
    let wanted = |text: &str| store::may_matter(text) || (has_gateway && elsewhere::may_call(text));
    sources::each(manifest, folder, (sources, files), wanted, |path, text| {
        let shown = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let fault = |code: &'static str, at: Span, message: String, fix: String| {
            Source::new(&shown, text).diagnostic(Severity::Warning, code, &at, message, Some(fix))
        };
        if store::may_bring(text) {
            may_bring.push(path.to_owned());
        }
        if asks.is_none()
            && store::may_ask(text)
            && let Some((at, way)) = store::asks(text)
        {
            let length = way.split([':', '(']).next().unwrap_or(way).len();
            let message = format!("`{way}` asks for a long-term store, which rapidclaw does not give yet: it is None");
            let fix = "compile the graph with a store of its own: `.compile(store=…)`";
            asks = Some(fault("no-store", at..at + length, message, fix.to_owned()));
        }
        if has_gateway && calls.len() < NAMED && elsewhere::may_call(text) {
            calls.extend(elsewhere::calls(text, is_set).into_iter().map(|one| {
                let elsewhere::Elsewhere { at, what, host, key, base_url } = one;
                let length = what.split('.').next().unwrap_or(&what).len();
                let message =
                    format!("`{what}` calls {host} with {key}, which in a replica is the model gateway's key: {host} refuses it");
                let fix = format!(
                    "set {base_url} in the agent's environment in place of the address in the code, or write \"rapidclaw\": {{\"models\": {{\"gateway\": false}}}}"
                );
                fault("key-elsewhere", at..at + length, message, fix)
            }));
        }
        ControlFlow::Continue(())
    });
    calls.truncate(NAMED);
    let mut brings = |path: &PathBuf| files.text(path).is_some_and(|text| store::brings(&text));
    let asks = asks.filter(|_| !may_bring.iter().any(&mut brings));
    calls.into_iter().chain(asks).collect()
}

/// The names of the agent's variables; none where they are not here, or not yet.
fn variables(manifest: &Manifest, folder: &Path) -> Option<Vec<String>> {
    match &manifest.env {
        EnvSource::None => None,
        EnvSource::Inline(values) => Some(values.keys().cloned().collect()),
        EnvSource::File(_) => {
            let file = folders::env_file(manifest, folder)?;
            Some(dotenv::read(&file.path).ok()?.into_keys().collect())
        }
    }
}
