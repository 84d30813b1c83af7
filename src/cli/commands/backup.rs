//! `server backup` and `server restore`.

use crate::cli::args::RestoreArgs;
use crate::cli::exit::{Exit, Failure, key_hint};
use crate::cli::ui::{Format, Printer};
use crate::server::backup::{self, BackupError, Contents};
use crate::server::settings::key_file;
use indicatif::HumanBytes;
use serde_json::json;
use std::path::Path;

/// Writes the backup. Says where the key is, which is not in it.
pub async fn back_up(data_dir: &Path, file: &Path, printer: &Printer) -> Result<Exit, Failure> {
    let progress = printer.progress();
    progress.passing("writing the backup");
    let contents = backup::back_up(data_dir, file).await?;
    drop(progress);
    let bytes = std::fs::metadata(file).map(|meta| meta.len()).unwrap_or_default();
    report(&contents, file, bytes, "written", printer);
    printer.note(format!(
        "secrets are in it sealed; the key that opens them is not: keep a copy of {} in another place",
        key_file(data_dir).display()
    ));
    Ok(left_out(&contents, "is not in the backup", printer))
}

/// Names the databases that are missing: the rest is whole.
fn left_out(contents: &Contents, what: &str, printer: &Printer) -> Exit {
    for one in &contents.missing {
        printer.warn(format!("the database {} of an agent {what}: {}", one.database, one.why));
    }
    if contents.missing.is_empty() { Exit::Done } else { Exit::Failed }
}

/// Makes a data folder from a backup.
pub async fn restore(args: &RestoreArgs, data_dir: &Path, printer: &Printer) -> Result<Exit, Failure> {
    let progress = printer.progress();
    progress.passing("restoring");
    let contents = backup::restore(&args.file, data_dir, args.key_file.as_deref(), args.postgres_image.clone()).await?;
    drop(progress);
    let bytes = std::fs::metadata(&args.file).map(|meta| meta.len()).unwrap_or_default();
    report(&contents, data_dir, bytes, "restored", printer);
    printer
        .note("start it: `rapidclaw server start`; the administrator's token is a new one: `rapidclaw login --local`");
    Ok(left_out(&contents, "is not restored whole", printer))
}

fn report(contents: &Contents, place: &Path, bytes: u64, what: &str, printer: &Printer) {
    match printer.format() {
        Format::Json => printer.json(&json!({
            "path": place, "bytes": bytes, "databases": contents.databases.len(),
            "created_at": contents.created_at, "rapidclaw": contents.rapidclaw, "missing": contents.missing,
        })),
        Format::Line | Format::Table => printer.line(format!(
            "{} {what}: {}, {} of {}",
            place.display(),
            HumanBytes(bytes),
            match contents.databases.len() {
                1 => "1 database".to_owned(),
                count => format!("{count} databases"),
            },
            contents.created_at
        )),
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let hint = match error {
            BackupError::Postgres(error) => return error.into(),
            BackupError::Server(error) => return (*error).into(),
            BackupError::Secret(ref error) => key_hint(error),
            BackupError::Io { .. } => None,
            BackupError::NoPostgres(_) => Some(
                "name the server's data folder with --data-dir; a database of your own (DATABASE_URL) is backed up with `pg_dump`",
            ),
            BackupError::NotEmpty(_) => Some("name another folder with --data-dir, or move this one away"),
            BackupError::NoKey(_) | BackupError::WrongKey(_) => Some(
                "name the key file of the server that was backed up with --key-file: it lay beside its data folder, as DATA_DIR.key",
            ),
            BackupError::Newer { .. } => Some("restore it with that version, or a newer one"),
            BackupError::Unreadable { .. } => Some("write it again, or onto another disk"),
            BackupError::Damaged(_) => {
                Some("deploy its agent again, which pushes the image anew; then look at the disk")
            }
            BackupError::NotABackup { .. } => Some("name a file that `rapidclaw server backup` wrote"),
        };
        let failure = Self::new(Exit::Failed, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
