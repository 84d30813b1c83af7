//! The system's user that the managed Postgres runs as.

use super::error::PostgresError;
use super::files::last_lines;
use crate::store::limits;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Who runs Postgres: ourselves, or, as it refuses root, the machine's user for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Whether we are root and have to become that user.
    switch: bool,
}

impl Account {
    /// For a cluster whose files belong to `owner` (none: not made yet).
    pub async fn for_data(owner: Option<u32>) -> Result<Self, PostgresError> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if uid != 0 {
            return Ok(Self { name: user_name(uid).await, uid, gid, switch: false });
        }
        let wanted = match owner {
            Some(owner) if owner != 0 => user_name(owner).await,
            _ => "postgres".to_owned(),
        };
        let number = async |flag: &'static str| -> Option<u32> {
            run(Path::new("id"), &[flag, &wanted], Path::new("/"), limits::QUESTION, None)
                .await
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        match (number("-u").await, number("-g").await) {
            (Some(uid), Some(gid)) if uid != 0 => Ok(Self { name: wanted, uid, gid, switch: true }),
            // An image has made them, for a user that this machine has no name for.
            _ => match owner.filter(|owner| *owner != 0) {
                Some(uid) => Ok(Self { name: wanted, uid, gid: uid, switch: true }),
                None => Err(PostgresError::NoAccount),
            },
        }
    }

    /// For a new cluster where we are root and no user is there for it: a container needs none.
    pub fn of_image() -> Self {
        Self { name: IMAGE_UID.to_string(), uid: IMAGE_UID, gid: IMAGE_UID, switch: true }
    }

    /// Who we are.
    pub async fn ourselves() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { name: user_name(uid).await, uid, gid, switch: false }
    }

    /// `/etc/passwd` for a container that this user and root use.
    pub fn passwd(&self) -> String {
        let line = |name: &str, uid: u32, gid: u32| format!("{name}:x:{uid}:{gid}::/:/bin/sh\n");
        let own = line(&self.name.replace([':', '\n'], ""), self.uid, self.gid);
        if self.uid == 0 { own } else { line("root", 0, 0) + &own }
    }

    /// Runs a program as this user and gives its output.
    pub async fn run(
        &self,
        program: &Path,
        args: &[&str],
        cwd: &Path,
        limit: Duration,
    ) -> Result<String, PostgresError> {
        run(program, args, cwd, limit, self.switch.then_some((self.uid, self.gid))).await
    }

    /// The first folder on the way to `path` that this user may not pass, by its mode bits.
    pub fn blocked_by(&self, path: &Path) -> Option<PathBuf> {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        ancestors
            .into_iter()
            .find(|folder| std::fs::metadata(folder).is_ok_and(|meta| !self.may_pass(&meta)))
            .map(Path::to_owned)
    }

    fn may_pass(&self, meta: &std::fs::Metadata) -> bool {
        let mode = meta.permissions().mode();
        let bit = if meta.uid() == self.uid {
            0o100
        } else if meta.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        self.uid == 0 || mode & bit != 0
    }

    /// The names of the system's users whose connections are the role [`super::options::ROLE`].
    pub async fn mapped_names(&self) -> Vec<String> {
        let mut names = vec![self.name.clone(), "root".to_owned()];
        let we = rustix::process::geteuid().as_raw();
        if we != self.uid && we != 0 {
            names.push(user_name(we).await);
        }
        names.sort();
        names.dedup();
        names
    }
}

/// The name of a user id; the number itself where it has none.
async fn user_name(uid: u32) -> String {
    let number = uid.to_string();
    // Without an argument it is ourselves, which every `id` understands.
    let ours = uid == rustix::process::geteuid().as_raw();
    let args: &[&str] = if ours { &["-un"] } else { &["-un", &number] };
    match run(Path::new("id"), args, Path::new("/"), limits::QUESTION, None).await {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => number,
    }
}

/// Nobody's number as a rule: above those that people get, below those that systems make up as they go.
const IMAGE_UID: u32 = 59_432;

/// Only what the programs of Postgres need is handed on: the server's environment holds secrets.
const ENVIRONMENT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TMPDIR"];

/// Runs a program and gives its output; as another user where one is given.
pub(super) async fn run(
    program: &Path,
    args: &[&str],
    cwd: &Path,
    limit: Duration,
    user: Option<(u32, u32)>,
) -> Result<String, PostgresError> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = tokio::process::Command::new(program);
    command.args(args).current_dir(cwd).stdin(Stdio::null()).kill_on_drop(true).env_clear();
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("LC_ALL", "C").env("TZ", "UTC");
    if let Some((uid, gid)) = user {
        // The standard library drops the other groups of root with it.
        command.uid(uid).gid(gid);
    }
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| PostgresError::TimedOut {
            what: "a program of Postgres",
            seconds: limit.as_secs(),
            log: name.clone(),
        })?
        .map_err(|source| PostgresError::Program { program: program.display().to_string(), source })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let said = last_lines(&format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)));
    Err(PostgresError::Failed { program: name, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_folder_above_the_data_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("home").join("data");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(folder.path().join("home"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { name: "postgres".into(), uid: 4_000_001, gid: 4_000_001, switch: false };
        assert_eq!(stranger.blocked_by(&inner), Some(folder.path().join("home")));
        std::fs::set_permissions(folder.path().join("home"), std::fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(stranger.blocked_by(&inner), None);
    }

    #[tokio::test]
    async fn what_a_failing_program_said_is_in_the_error() {
        let error =
            run(Path::new("sh"), &["-c", "echo out; echo why >&2; exit 3"], Path::new("/"), limits::QUESTION, None)
                .await
                .unwrap_err();
        assert_eq!(error.to_string(), "sh failed: out\nwhy");
        let slow = run(Path::new("sleep"), &["9"], Path::new("/"), Duration::from_millis(50), None).await.unwrap_err();
        assert!(matches!(slow, PostgresError::TimedOut { .. }));
    }
}
