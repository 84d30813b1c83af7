//! The files of the managed Postgres: where they lie, what is written into them, what they say.
//!
//! `DATA/postgres` (0700, of the user that Postgres runs as) holds `data` (the cluster), `log` and
//! `socket`. Its lock file lies beside it, out of that user's reach.

use super::account::Account;
use super::error::PostgresError;
use super::files::{blocking, last_lines};
use super::options::{Options, ROLE};
use crate::base::paths;
use std::fmt::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What fits `sockaddr_un` on every system that we run on (macOS takes 103 and a NUL, Linux 107).
pub(super) const MAX_SOCKET_PATH: usize = 103;
/// The socket's name in its folder: Postgres derives it from the port.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// Where everything lies.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub root: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    pub socket: PathBuf,
    pub lock: PathBuf,
}

impl Layout {
    pub fn new(data_dir: &Path) -> Result<Self, PostgresError> {
        let data_dir = std::path::absolute(data_dir)
            .map_err(|source| PostgresError::Folder { path: data_dir.to_owned(), source })?;
        let root = data_dir.join("postgres");
        let mut socket = root.join("socket");
        if !fits(&socket) {
            // The same short name each time, so that a server that comes back finds it.
            let digest = crate::base::secret::token_hash(&data_dir.to_string_lossy());
            let name = format!("rapidclaw-pg-{}", crate::base::secret::hex(&digest[..8]));
            socket = Path::new("/tmp").join(name);
        }
        if !fits(&socket) {
            return Err(PostgresError::SocketPath { path: socket });
        }
        Ok(Self { data: root.join("data"), log: root.join("log"), lock: data_dir.join("postgres.lock"), socket, root })
    }

    /// What is there now. To be called off the runtime's threads.
    pub fn look(&self) -> Seen {
        let version = std::fs::read_to_string(self.data.join("PG_VERSION")).ok();
        let process = std::fs::read_to_string(self.pid_path()).ok().and_then(|text| PidFile::parse(&text));
        Seen {
            owner: std::fs::metadata(&self.data).ok().map(|meta| meta.uid()),
            version: version.and_then(|text| text.trim().split('.').next()?.parse().ok()),
            lives: process.as_ref().is_some_and(|process| process.lives(&self.data)),
            socket: self.trusted_socket(process.as_ref()),
            process,
        }
    }

    /// The folder of the socket, where nobody else can have put one: within our own folder, or one
    /// in `/tmp` that is private to the owner of the cluster.
    fn trusted_socket(&self, process: Option<&PidFile>) -> Option<PathBuf> {
        let socket = process.and_then(|process| process.socket.as_ref()).unwrap_or(&self.socket);
        let owner = std::fs::metadata(&self.data).ok()?.uid();
        let meta = std::fs::symlink_metadata(socket).ok()?;
        let private = meta.is_dir() && meta.uid() == owner && meta.permissions().mode() & 0o777 == 0o700;
        (private || socket.starts_with(&self.root)).then(|| socket.clone())
    }

    fn pid_path(&self) -> PathBuf {
        self.data.join("postmaster.pid")
    }

    /// The file that `pg_ctl` gives the first words of Postgres to, before its own log begins.
    pub fn start_log(&self) -> PathBuf {
        self.log.join("start.log")
    }

    /// The last lines of what Postgres said: of its newest log, after those of its start.
    pub fn log_tail(&self) -> String {
        let mut logs: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(&self.log)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        logs.sort();
        let text = logs.iter().rev().take(2).rev().map(|(_, path)| read_end(path)).collect::<Vec<_>>().join("\n");
        last_lines(&text)
    }

    /// Makes the folders, for `account`; where `passes`, it finds its own way to them. To be called off the
    /// runtime's threads.
    pub fn make_folders(&self, account: &Account, passes: bool) -> Result<(), PostgresError> {
        let data_dir = self.root.parent().unwrap_or(&self.root);
        if !data_dir.exists() {
            let mode = if paths::is_root() { 0o711 } else { 0o700 };
            paths::ensure_dir(data_dir, mode).map_err(|source| folder(data_dir, source))?;
        }
        let real = std::fs::canonicalize(data_dir).map_err(|source| folder(data_dir, source))?;
        if passes {
            self.let_pass(&real, account)?;
        }
        for path in [&self.root, &self.log, &self.socket] {
            make_private(path, account)?;
        }
        Ok(())
    }

    /// Postgres' user has to pass the data folder. Its own files are private one by one, so that
    /// this opens nothing; a folder further up is not ours to change.
    fn let_pass(&self, data_dir: &Path, account: &Account) -> Result<(), PostgresError> {
        let meta = std::fs::metadata(data_dir).map_err(|source| folder(data_dir, source))?;
        let blocked = account.blocked_by(data_dir);
        if blocked.as_deref() == Some(data_dir) && meta.uid() == rustix::process::geteuid().as_raw() {
            let mode = meta.permissions().mode() & 0o7777 | 0o011;
            std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(mode))
                .map_err(|source| folder(data_dir, source))?;
            return Ok(());
        }
        match blocked {
            Some(folder) => {
                Err(PostgresError::NotEnterable { folder, data: self.root.clone(), account: account.name.clone() })
            }
            None => Ok(()),
        }
    }

    /// Writes Postgres' configuration. To be called off the runtime's threads.
    pub fn configure(
        &self,
        cluster: &Path,
        options: &Options,
        account: &Account,
        names: &[String],
    ) -> Result<(), PostgresError> {
        let mut ident = String::from("# Written by rapidclaw at each start.\n");
        for name in names {
            let _ = writeln!(ident, "rapidclaw \"{}\" {ROLE}", name.replace('"', ""));
        }
        for (name, text) in
            [("postgresql.conf", settings(self, options)), ("pg_hba.conf", access_rules()), ("pg_ident.conf", ident)]
        {
            let path = cluster.join(name);
            write_for(account, &path, &text)?;
        }
        Ok(())
    }

    /// Writes the access rules of this version where a Postgres of an older one runs. Says whether it did. To be
    /// called off the runtime's threads.
    pub fn renew_access_rules(&self, account: &Account) -> Result<bool, PostgresError> {
        let path = self.data.join("pg_hba.conf");
        let rules = access_rules();
        if std::fs::read_to_string(&path).is_ok_and(|now| now == rules) {
            return Ok(false);
        }
        write_for(account, &path, &rules)?;
        Ok(true)
    }

    /// The lock files that a killed Postgres left hold the next one back where its number has gone to
    /// another process, or to a zombie. Then they get a number that no process has; the other lines
    /// stay, as by them Postgres sees whether children of the killed one still use the data.
    pub fn unblock(&self, account: &Account) -> Result<(), PostgresError> {
        for path in [self.pid_path(), self.socket.join(format!("{SOCKET_NAME}.lock"))] {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let Some((process, (_, rest))) = PidFile::parse(&text).zip(text.split_once('\n')) else { continue };
            if !process.lives(&self.data) && process.number_is_taken() {
                write_for(account, &path, &format!("{NOBODYS_NUMBER}\n{rest}"))?;
            }
        }
        Ok(())
    }
}

/// `pg_hba.conf`: the server's role is for the server's user; an agent's role enters the database of its own
/// name, with its password, and so does the role that backs it up, which is a member of it.
pub(super) fn access_rules() -> String {
    format!(
        "# Written by rapidclaw at each start.\nlocal all {ROLE} peer map=rapidclaw\nlocal samerole all scram-sha-256\n"
    )
}

/// Above every system's largest process number.
const NOBODYS_NUMBER: i32 = 99_999_999;

pub(super) fn write_for(account: &Account, path: &Path, text: &str) -> Result<(), PostgresError> {
    paths::write_private(path, text.as_bytes())
        .and_then(|()| std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)))
        .map_err(|source| folder(path, source))
}

fn fits(socket: &Path) -> bool {
    socket.join(SOCKET_NAME).as_os_str().len() <= MAX_SOCKET_PATH
}

fn folder(path: &Path, source: std::io::Error) -> PostgresError {
    PostgresError::Folder { path: path.to_owned(), source }
}

/// A folder of `account`'s own, mode 0700; one that is there must be no link and of that user (or ours to give).
fn make_private(path: &Path, account: &Account) -> Result<(), PostgresError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(folder(path, error)),
    }
    let meta = std::fs::symlink_metadata(path).map_err(|source| folder(path, source))?;
    if !meta.is_dir() {
        return Err(folder(path, std::io::Error::from(std::io::ErrorKind::NotADirectory)));
    }
    let we = rustix::process::geteuid().as_raw();
    if meta.uid() != account.uid {
        // Ours, and just made (root makes it for Postgres' user): given away; another's: left alone.
        if meta.uid() != we {
            return Err(PostgresError::ForeignOwner { path: path.to_owned(), owner: meta.uid(), we });
        }
        std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)).map_err(|source| folder(path, source))?;
    }
    if meta.permissions().mode() & 0o777 != 0o700 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .map_err(|source| folder(path, source))?;
    }
    Ok(())
}

/// `postgresql.conf`. What an operator wants otherwise he sets with `ALTER SYSTEM`, which stands above it.
fn settings(layout: &Layout, options: &Options) -> String {
    // A list of names in a quoted value: quotes of both kinds are doubled.
    let socket = layout.socket.to_string_lossy().replace('"', "\"\"").replace('\'', "''");
    let log = layout.log.to_string_lossy().replace('\'', "''");
    let mut text = format!(
        "# Written by rapidclaw at each start; change settings with ALTER SYSTEM.\n\
         listen_addresses = ''\n\
         port = 5432\n\
         unix_socket_directories = '\"{socket}\"'\n\
         unix_socket_permissions = 0700\n\
         max_connections = {}\n\
         # What agents with databases of their own leave to the server.\n\
         superuser_reserved_connections = 25\n\
         # All share the table of locks; an agent may have ten thousand tables.\n\
         max_locks_per_transaction = 128\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n\
         \n\
         # A small server beside its own clients.\n\
         shared_buffers = 128MB\n\
         work_mem = 8MB\n\
         maintenance_work_mem = 64MB\n\
         random_page_cost = 1.1\n\
         jit = off\n\
         \n\
         # Many small commits: fewer checkpoints (each makes pages go into the log whole), smaller log.\n\
         wal_compression = on\n\
         wal_buffers = 16MB\n\
         checkpoint_timeout = 15min\n\
         min_wal_size = 256MB\n\
         max_wal_size = 1GB\n\
         \n\
         # Neither values of statements nor rows in the log: they are people's conversations.\n\
         logging_collector = on\n\
         log_directory = '{log}'\n\
         log_filename = 'postgres-%u.log'\n\
         log_file_mode = 0600\n\
         log_rotation_age = 1d\n\
         log_rotation_size = 0\n\
         log_truncate_on_rotation = on\n\
         log_line_prefix = '%m [%p] '\n\
         log_error_verbosity = terse\n\
         log_parameter_max_length = 0\n\
         log_parameter_max_length_on_error = 0\n\
         log_min_error_statement = panic\n\
         log_min_duration_statement = 1s\n",
        options.max_connections,
    );
    if cfg!(target_os = "macos") {
        // There fsync() leaves data in the drive's cache.
        text.push_str("wal_sync_method = fsync_writethrough\n");
    }
    if !options.durable {
        text.push_str("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n");
    }
    text
}

/// What is there of a cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Who owns it.
    pub owner: Option<u32>,
    /// The major version that made it.
    pub version: Option<u32>,
    pub process: Option<PidFile>,
    /// Whether `process` is this cluster's Postgres.
    pub lives: bool,
    /// The folder of its socket; none where there is no cluster.
    pub socket: Option<PathBuf>,
}

/// What `postmaster.pid` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    pub pid: i32,
    /// The folder of the socket; none before the socket is there.
    pub socket: Option<PathBuf>,
}

impl PidFile {
    /// Lines: process, data folder, start time, port, socket's folder, address, shared memory, state.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        let socket = lines.nth(3).map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from);
        Some(Self { pid, socket })
    }

    /// Whether the process is the Postgres of the cluster `data`, and no other that got its number since.
    pub fn lives(&self, data: &Path) -> bool {
        let process = Path::new("/proc").join(self.pid.to_string());
        if Path::new("/proc/self").exists() {
            // Postgres works in its data folder. A zombie has none.
            return std::fs::read_link(process.join("cwd"))
                // In a container the path has no links.
                .is_ok_and(|cwd| cwd == data || std::fs::canonicalize(data).is_ok_and(|data| data == cwd));
        }
        self.number_is_taken()
    }

    fn number_is_taken(&self) -> bool {
        rustix::process::Pid::from_raw(self.pid)
            .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }
}

/// The last 16 KiB of a file.
fn read_end(path: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 << 10)))?;
        let mut bytes = Vec::new();
        file.take(16 << 10).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

pub(super) async fn look(layout: &Layout) -> Result<Seen, PostgresError> {
    let layout = layout.clone();
    blocking(move || Ok(layout.look())).await
}

/// The log's last lines.
pub(super) async fn tail(layout: &Layout) -> String {
    let layout = layout.clone();
    blocking(move || Ok(layout.log_tail())).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_data_folder_gets_a_short_socket_the_same_each_time() {
        let short = Layout::new(Path::new("/var/lib/rapidclaw")).unwrap();
        assert_eq!(short.socket, Path::new("/var/lib/rapidclaw/postgres/socket"));
        let long = PathBuf::from(format!("/{}", "x".repeat(120)));
        let (one, two) = (Layout::new(&long).unwrap(), Layout::new(&long).unwrap());
        assert!(fits(&one.socket));
        assert_eq!(one.socket, two.socket);
        assert_ne!(one.socket, Layout::new(&long.join("y")).unwrap().socket);
    }

    #[test]
    fn pid_files_are_read_with_and_without_a_socket() {
        let whole = "4711\n/d/data\n1700000000\n5432\n/d/socket\n\n  5432001    0\nready   \n";
        assert_eq!(PidFile::parse(whole), Some(PidFile { pid: 4711, socket: Some("/d/socket".into()) }));
        assert_eq!(PidFile::parse("4711\n/d/data\n17\n5432\n"), Some(PidFile { pid: 4711, socket: None }));
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("-5\n"), None);
    }

    #[test]
    fn a_process_that_is_not_this_clusters_postgres_does_not_live() {
        let folder = tempfile::tempdir().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        if Path::new("/proc/self").exists() {
            assert!(!PidFile { pid, socket: None }.lives(folder.path()));
        }
        assert!(!PidFile { pid: i32::MAX, socket: None }.lives(folder.path()));
    }

    #[test]
    fn the_socket_is_quoted_and_tests_alone_give_up_durability() {
        let layout = Layout::new(Path::new("/it's,\"here\"")).unwrap();
        let durable = settings(&layout, &Options::new("/x"));
        assert!(durable.contains("unix_socket_directories = '\"/it''s,\"\"here\"\"/postgres/socket\"'"), "{durable}");
        assert!(durable.contains("listen_addresses = ''\n") && !durable.contains("fsync = off"));
        let fast = settings(&layout, &Options { durable: false, ..Options::new("/x") });
        assert!(fast.contains("fsync = off"));
    }

    #[test]
    fn only_the_last_lines_are_told() {
        let text: Vec<String> = (0..40).map(|line| format!("line {line}\n\n")).collect();
        let text = text.concat();
        let told = last_lines(&text);
        assert!(told.starts_with("line 25\n") && told.ends_with("line 39"));
    }
}
