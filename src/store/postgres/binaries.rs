//! Where this machine keeps Postgres' programs.

use super::account::Account;
use super::error::PostgresError;
use super::options::MIN_MAJOR;
use crate::store::limits;
use std::path::{Path, PathBuf};

/// A folder with `initdb`, `pg_ctl` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub folder: PathBuf,
    pub major: u32,
}

impl Binaries {
    /// The newest, or those of the version `wanted` (that of an existing data folder, `data`).
    pub async fn find(account: &Account, wanted: Option<u32>, data: &Path) -> Result<Self, PostgresError> {
        let folders = candidates(account).await;
        let mut found = Vec::new();
        for folder in folders {
            // One that does not run (wrong machine, no right) counts as not there.
            let Ok(said) =
                account.run(&folder.join("postgres"), &["--version"], Path::new("/"), limits::QUESTION).await
            else {
                continue;
            };
            if let Some(major) = major(&said).filter(|major| *major >= MIN_MAJOR) {
                let here = Self { folder, major };
                if wanted == Some(major) {
                    return Ok(here);
                }
                found.push(here);
            }
        }
        match wanted {
            _ if found.is_empty() => Err(PostgresError::NoBinaries { looked: PLACES_IN_WORDS.into() }),
            Some(version) => {
                let mut binaries: Vec<u32> = found.iter().map(|found| found.major).collect();
                binaries.sort_unstable();
                binaries.dedup();
                Err(PostgresError::OtherVersion { folder: data.to_owned(), data: version, binaries })
            }
            // The first of the newest: PATH stands before the system's folders.
            None => {
                let newest = found.iter().map(|found| found.major).max();
                found
                    .into_iter()
                    .find(|found| Some(found.major) == newest)
                    .ok_or_else(|| PostgresError::NoBinaries { looked: PLACES_IN_WORDS.into() })
            }
        }
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A program that is not among the three: it may lie only where the folder's links lead.
    pub async fn other_program(&self, name: &str) -> PathBuf {
        let here = self.folder.join(name);
        if tokio::fs::metadata(&here).await.is_ok() {
            return here;
        }
        let home = tokio::fs::canonicalize(self.folder.join("postgres")).await;
        home.map_or(here, |postgres| postgres.with_file_name(name))
    }
}

const PLACES_IN_WORDS: &str = "PATH, pg_config --bindir, /usr/lib/postgresql, /usr/pgsql-*, Homebrew's folders";

/// Folders of the kind PARENT/PREFIX*/SUFFIX: Debian, RPM, Alpine, Homebrew on both processors, Postgres.app.
const PLACES: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

async fn candidates(account: &Account) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    for (parent, prefix, suffix) in PLACES {
        folders.extend(matching(Path::new(parent), prefix, suffix).await);
    }
    if let Ok(said) = account.run(Path::new("pg_config"), &["--bindir"], Path::new("/"), limits::QUESTION).await {
        folders.push(PathBuf::from(said.trim()));
    }
    let mut whole = Vec::new();
    for folder in folders {
        if !whole.contains(&folder) && has_all(&folder).await {
            whole.push(folder);
        }
    }
    whole
}

async fn matching(parent: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Ok(mut entries) = tokio::fs::read_dir(parent).await {
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(if suffix.is_empty() { entry.path() } else { entry.path().join(suffix) });
            }
        }
    }
    found.sort();
    found
}

async fn has_all(folder: &Path) -> bool {
    for name in ["initdb", "pg_ctl", "postgres"] {
        if !tokio::fs::metadata(folder.join(name)).await.is_ok_and(|meta| meta.is_file()) {
            return false;
        }
    }
    true
}

/// 15 of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; also of `18beta1`.
pub(super) fn major(said: &str) -> Option<u32> {
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("none"), None);
    }

    #[tokio::test]
    async fn only_folders_with_all_programs_count() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["15", "16"] {
            let bin = folder.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            std::fs::write(bin.join("initdb"), "").unwrap();
            std::fs::write(bin.join("pg_ctl"), "").unwrap();
        }
        std::fs::write(folder.path().join("16/bin/postgres"), "").unwrap();
        let all = matching(folder.path(), "", "bin").await;
        assert_eq!(all.len(), 2);
        assert!(!has_all(&all[0]).await);
        assert!(has_all(&all[1]).await);
    }

    #[tokio::test]
    async fn data_of_another_version_are_an_error_that_names_both() {
        let account = Account::for_data(None).await.unwrap();
        let error = Binaries::find(&account, Some(7), Path::new("/data")).await.unwrap_err();
        assert!(matches!(&error, PostgresError::OtherVersion { data: 7, binaries, .. } if !binaries.is_empty()));
        assert!(error.to_string().starts_with("/data was made by Postgres 7, and this machine has "), "{error}");
    }
}
