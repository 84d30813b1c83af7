//! The manifest and the project behind it, checked, with every fault shown.

use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::Printer;
use crate::image::Unsteady;
use crate::manifest::{self, Diagnostic, Loaded, ManifestError, project, render};
use std::path::{Path, PathBuf};

/// A manifest without errors, and the folder it is in.
pub struct Checked {
    /// What it says.
    pub loaded: Loaded,
    /// The project's folder: absolute, without links.
    pub folder: PathBuf,
    /// Files that enter no image, beside those that the manifest names.
    pub private: Vec<PathBuf>,
    /// Files that change while it is read.
    pub unsteady: Unsteady,
    /// Faults that are no errors.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the manifest and, unless `manifest_only`, checks what it names. All faults at once.
pub fn check(path: &Path, manifest_only: bool) -> Result<Checked, Failure> {
    let loaded = manifest::load(path).map_err(invalid)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs_err::canonicalize(folder).map_err(|error| Failure::new(Exit::Invalid, error))?;
    let mut faults = loaded.warnings.clone();
    if !manifest_only {
        faults.extend(project::check(&loaded, &folder));
        // The manifest's own first.
        let file = loaded.source.file();
        faults.sort_by_key(|fault| (fault.file != file, fault.file.clone(), fault.line, fault.column));
    }
    if faults.iter().any(Diagnostic::is_error) {
        return Err(invalid(ManifestError::Invalid(faults)));
    }
    Ok(Checked { loaded, folder, private: Vec::new(), unsteady: Unsteady::default(), warnings: faults })
}

/// JavaScript is validated whole and not deployed yet: there is no runner for it. The manifest is right, so that
/// it is no fault of it.
pub fn python_only(checked: &Checked) -> Result<(), Failure> {
    let script = checked.loaded.manifest.graphs.iter().find(|graph| graph.is_javascript());
    script.map_or(Ok(()), |graph| {
        let text = format!("graph {} is JavaScript, which is validated and not deployed yet", graph.id);
        Err(Failure::said(Exit::Usage, text).hint("deploy the Python graphs with a manifest of their own"))
    })
}

/// [`check`], with the warnings shown, unless nothing but errors is wanted. Those of the codes in `but` say nothing to
/// the command.
pub fn check_loudly(path: &Path, but: &[&str], printer: &Printer) -> Result<Checked, Failure> {
    let mut checked = check(path, false)?;
    checked.warnings.retain(|fault| !but.contains(&fault.code));
    if !checked.warnings.is_empty() && !printer.is_quiet() {
        printer.text(render(&checked.warnings));
        printer.faults(&checked.warnings);
    }
    Ok(checked)
}

/// What is wrong with a manifest, at its places.
pub fn invalid(error: ManifestError) -> Failure {
    let shown = render(error.diagnostics());
    let hint = error.hint();
    let faults = error.diagnostics().to_vec();
    let mut failure = Failure::new(Exit::Invalid, error);
    failure.more.faults = faults;
    let failure = if shown.is_empty() { failure } else { failure.evidence(shown) };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
