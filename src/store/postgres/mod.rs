//! Postgres: the one that the server manages in its data folder, and one that is given by a URL.
//!
//! The managed Postgres outlives the server: it is started detached, a server that comes back adopts
//! it, and only [`Managed::stop`] ends it. Nobody else reaches it: no TCP, a socket in a private
//! folder, and peer authentication that maps the server's user (and root) onto its only role.

mod account;
pub(super) mod agent_databases;
mod backup;
mod binaries;
mod cluster;
mod deaths;
mod error;
mod external;
mod files;
mod hot;
mod keep;
mod options;
pub mod passage;
mod pool;
mod programs;
pub mod startup;
#[cfg(test)]
mod tests;

use super::limits;
use crate::base::disk;
use account::Account;
pub use backup::{Dump, Missing};
use cluster::{Layout, Seen, look, tail};
pub use deaths::is_full;
pub use error::PostgresError;
pub use external::connect;
use files::blocking;
pub use hot::{Hot, HotConnection};
pub use keep::keep;
pub use options::Options;
use options::{CONNECTION_BYTES, ROLE};
use pool::open;
pub use pool::pool;
use programs::Programs;
pub use programs::Source;
use sqlx::Connection as _;
/// How to connect to a database.
pub use sqlx::postgres::PgConnectOptions as ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// What a new cluster takes: its tables 40 MB, its log 16 MB at once and again with the first work.
const NEW_CLUSTER_BYTES: u64 = 96 << 20;

/// A Postgres that runs.
#[derive(Debug, Clone)]
pub struct Managed {
    layout: Layout,
    /// The folder of the socket it listens on.
    socket: PathBuf,
}

impl Managed {
    /// The Postgres of this data folder: the one that runs, else one that is made, as far as it is
    /// not there yet, and started. Safe to call from several processes at once.
    pub async fn ensure(options: &Options) -> Result<Self, PostgresError> {
        Self::ensure_there(options).await.map_err(|error| error.on_disk(&options.data_dir))
    }

    async fn ensure_there(options: &Options) -> Result<Self, PostgresError> {
        let layout = Layout::new(&options.data_dir)?;
        if let Some(running) = Self::adopt(&layout).await? {
            return running.with_database().await;
        }
        let seen = look(&layout).await?;
        // Boxed, as what it asks an engine is large, and seldom needed.
        let (account, programs) = Box::pin(Programs::find(&seen, &layout, options)).await?;
        if let Some(owner) = seen.owner.filter(|owner| *owner != account.uid) {
            let we = rustix::process::geteuid().as_raw();
            return Err(PostgresError::ForeignOwner { path: layout.data, owner, we });
        }
        blocking({
            let (layout, account, passes) = (layout.clone(), account.clone(), programs.are_of_this_machine());
            move || layout.make_folders(&account, passes)
        })
        .await?;
        let _lock = lock(&layout.lock).await?;
        // Another server may have started it meanwhile.
        if let Some(running) = Self::adopt(&layout).await? {
            return running.with_database().await;
        }
        let now = look(&layout).await?;
        // Or it has made the data, perhaps of another version than what was found for none.
        let programs = if now.version == seen.version {
            programs
        } else {
            Box::pin(Programs::find(&now, &layout, options)).await?.1
        };
        if now.version.is_none() {
            let free = disk::free_bytes(&options.data_dir).filter(|free| *free < NEW_CLUSTER_BYTES);
            if let Some(free) = free {
                let needed = Some(NEW_CLUSTER_BYTES);
                return Err(PostgresError::DiskFull { path: options.data_dir.clone(), free, needed });
            }
            init(&layout, &programs, &account, options).await?;
        }
        start(&layout, &programs, &account, options).await?;
        match Self::adopt(&layout).await? {
            Some(running) => running.with_database().await,
            None => Err(PostgresError::Start { log: tail(&layout).await }),
        }
    }

    /// The Postgres of this data folder, if it runs.
    pub async fn find(data_dir: &Path) -> Result<Option<Self>, PostgresError> {
        Self::adopt(&Layout::new(data_dir)?).await
    }

    /// Whether the Postgres of this data folder runs. As a rule its process is looked for, which asks it nothing.
    async fn is_alive(data_dir: &Path) -> Result<bool, PostgresError> {
        let layout = Layout::new(data_dir)?;
        Ok(look(&layout).await?.lives || Self::adopt(&layout).await?.is_some())
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How to connect to the server's database in it.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options_for(ROLE)
    }

    /// How to connect to another database in it.
    pub fn options_for(&self, database: &str) -> PgConnectOptions {
        pool::bounded(
            PgConnectOptions::new_without_pgpass()
                .socket(&self.socket)
                .port(5432)
                .username(ROLE)
                .password("")
                .database(database)
                .ssl_mode(sqlx::postgres::PgSslMode::Disable),
        )
    }

    /// Ends it: its clients' transactions are rolled back, its data written. What does not end in
    /// time is stopped at once and recovers at the next start.
    pub async fn stop(self) -> Result<(), PostgresError> {
        use rustix::process::{Pid, Signal, kill_process};
        for (signal, limit) in [(Signal::INT, limits::STOP), (Signal::QUIT, limits::STOP_NOW)] {
            let Seen { process: Some(process), lives: true, .. } = look(&self.layout).await? else { return Ok(()) };
            if let Some(pid) = Pid::from_raw(process.pid)
                && let Err(error) = kill_process(pid, signal)
                && error != rustix::io::Errno::SRCH
            {
                return Err(PostgresError::Program { program: format!("kill {}", process.pid), source: error.into() });
            }
            let deadline = Instant::now() + limit;
            while Instant::now() < deadline {
                let now = look(&self.layout).await?;
                if !now.lives || now.process.is_none_or(|now| now.pid != process.pid) {
                    return Ok(());
                }
                tokio::time::sleep(limits::POLL).await;
            }
            tracing::warn!(seconds = limit.as_secs(), "the managed Postgres did not stop in time");
        }
        Err(timed_out("the stop of Postgres", limits::STOP + limits::STOP_NOW, &self.layout).await)
    }

    /// The one that runs. Waits for one that still starts or recovers.
    async fn adopt(layout: &Layout) -> Result<Option<Self>, PostgresError> {
        let deadline = Instant::now() + limits::RECOVERY;
        loop {
            let Seen { lives, socket: Some(socket), .. } = look(layout).await? else { return Ok(None) };
            let managed = Self { layout: layout.clone(), socket };
            // The connection decides, not the process: in another container it cannot be seen.
            match open(&managed.options_for("postgres")).await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    return Ok(Some(managed));
                }
                Err(error) if is_starting(&error) || (lives && is_absent(&error)) => {
                    if Instant::now() > deadline {
                        return Err(timed_out("the start of Postgres", limits::RECOVERY, layout).await);
                    }
                    tokio::time::sleep(limits::POLL).await;
                }
                Err(error) if is_absent(&error) => return Ok(None),
                Err(source) => return Err(PostgresError::Refused { socket: managed.socket, source }),
            }
        }
    }

    /// Makes the server's database where it is not there yet.
    async fn with_database(self) -> Result<Self, PostgresError> {
        self.renew_access_rules().await?;
        self.bound_memory().await?;
        let failed = |source| PostgresError::Statement { action: "make the server's database", source };
        let source = match open(&self.connect_options()).await {
            Ok(connection) => {
                let _ = connection.close().await;
                return Ok(self);
            }
            Err(source) => source,
        };
        if code(&source).as_deref() != Some("3D000") {
            return Err(PostgresError::Refused { socket: self.socket, source });
        }
        let mut connection = open(&self.options_for("postgres")).await.map_err(failed)?;
        match sqlx::raw_sql("CREATE DATABASE rapidclaw").execute(&mut connection).await {
            Ok(_) => {}
            // Another server made it at the same time: 42P04, or 23505 on pg_database's own key.
            Err(error) if matches!(code(&error).as_deref(), Some("42P04" | "23505")) => {}
            Err(error) => return Err(failed(error)),
        }
        let _ = connection.close().await;
        Ok(self)
    }
}

impl Managed {
    /// Bounds what each connection may take of the machine's memory, beside what all share: an agent may ask for as
    /// much as it likes, and gets an error instead of the machine's end. As a rule Postgres was started with it; one
    /// of an older version gets it here, and its processes that begin from now on inherit it.
    async fn bound_memory(&self) -> Result<(), PostgresError> {
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Pid, Resource, Rlimit, prlimit};
            let Seen { process: Some(process), lives: true, .. } = look(&self.layout).await? else { return Ok(()) };
            let limit = Rlimit { current: Some(CONNECTION_BYTES), maximum: Some(CONNECTION_BYTES) };
            if let Some(pid) = Pid::from_raw(process.pid)
                && let Err(error) = prlimit(Some(pid), Resource::Data, limit)
            {
                tracing::debug!(%error, "the memory of Postgres' connections has no bound");
            }
        }
        Ok(())
    }

    /// A Postgres that runs may have been started by an older version of ours.
    async fn renew_access_rules(&self) -> Result<(), PostgresError> {
        let account = Account::for_data(look(&self.layout).await?.owner).await?;
        let layout = self.layout.clone();
        if blocking(move || layout.renew_access_rules(&account)).await? {
            let failed = |source| PostgresError::Statement { action: "renew Postgres' access rules", source };
            let mut connection = open(&self.options_for("postgres")).await.map_err(failed)?;
            sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut connection).await.map_err(failed)?;
            let _ = connection.close().await;
        }
        Ok(())
    }
}

/// The SQLSTATE that Postgres answered with.
fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// It lives and does not take connections yet, or not any more.
fn is_starting(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("57P03" | "57P01" | "57P02"))
}

/// Nobody listens on the socket.
fn is_absent(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_))
}

async fn timed_out(what: &'static str, limit: Duration, layout: &Layout) -> PostgresError {
    PostgresError::TimedOut { what, seconds: limit.as_secs(), log: tail(layout).await }
}

/// Held while the cluster is made and started; ends with the process that holds it.
async fn lock(path: &Path) -> Result<std::fs::File, PostgresError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| PostgresError::Folder { path: path.to_owned(), source };
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed)?;
    let deadline = Instant::now() + limits::BUSY;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(limits::POLL).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(PostgresError::TimedOut {
                    what: "another process, which starts the same Postgres,",
                    seconds: limits::BUSY.as_secs(),
                    log: String::new(),
                });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

/// Makes the cluster beside its place and moves it there whole: what a kill leaves is thrown away.
async fn init(layout: &Layout, programs: &Programs, account: &Account, options: &Options) -> Result<(), PostgresError> {
    let draft = layout.root.join("data.new");
    tracing::info!(folder = %layout.data.display(), version = programs.major(), "making the managed Postgres");
    // Plain byte order, which is fastest and never changes with the system; letters of all languages,
    // where the system knows them.
    let mut outcome = Ok(String::new());
    for letters in ["C.UTF-8", "C"] {
        remove(&draft).await?;
        let (folder, letters) = (draft.display().to_string(), format!("--lc-ctype={letters}"));
        let mut args = vec!["-D", &folder, "-U", ROLE, "-E", "UTF8", "--locale=C", &letters, "--data-checksums"];
        args.push("--auth=peer");
        if !options.durable {
            args.push("--no-sync");
        }
        outcome = programs.initdb(layout, account, &args).await;
        if !matches!(&outcome, Err(PostgresError::Failed { said, .. }) if said.contains("locale")) {
            break;
        }
    }
    outcome?;
    let names = account.mapped_names().await;
    let (layout, account, options) = (layout.clone(), account.clone(), options.clone());
    blocking(move || {
        layout.configure(&draft, &options, &account, &names)?;
        std::fs::rename(&draft, &layout.data)
            .map_err(|source| PostgresError::Folder { path: layout.data.clone(), source })
    })
    .await
}

async fn remove(folder: &Path) -> Result<(), PostgresError> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PostgresError::Folder { path: folder.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// For a shell: runs a program with its arguments, which inherits the bound on a connection's memory. It is the one
/// way that needs no right: root in a container may not set it for another user's process.
fn bounded() -> String {
    format!("ulimit -d {} 2>/dev/null; exec \"$0\" \"$@\"", CONNECTION_BYTES >> 10)
}

/// Starts the cluster. `pg_ctl` puts Postgres into a session of its own: it survives the server and
/// a Ctrl-C in its terminal.
async fn start(
    layout: &Layout,
    programs: &Programs,
    account: &Account,
    options: &Options,
) -> Result<(), PostgresError> {
    let names = account.mapped_names().await;
    blocking({
        let (layout, account, options) = (layout.clone(), account.clone(), options.clone());
        move || {
            layout.configure(&layout.data, &options, &account, &names)?;
            layout.unblock(&account)
        }
    })
    .await?;
    let binaries = match programs {
        Programs::Machine(binaries) => binaries,
        Programs::Image(image) => return Box::pin(image.start(layout, account)).await,
    };
    let (data, log) = (layout.data.display().to_string(), layout.start_log().display().to_string());
    let seconds = limits::START.as_secs().to_string();
    let (bounded, pg_ctl) = (bounded(), binaries.program("pg_ctl").display().to_string());
    let args = ["-c", &bounded, &pg_ctl, "-D", &data, "-l", &log, "-w", "-s", "-t", &seconds, "start"];
    let deadline = Instant::now() + limits::ORPHANS;
    loop {
        let _ = tokio::fs::remove_file(layout.start_log()).await;
        let limit = limits::START + limits::QUESTION;
        let outcome = account.run(Path::new("/bin/sh"), &args, &layout.root, limit).await;
        match outcome {
            Ok(_) => return Ok(()),
            // It lives: it recovers, and `adopt` waits for it.
            Err(_) if look(layout).await?.lives => return Ok(()),
            Err(PostgresError::Failed { said, .. }) => {
                let log = tail(layout).await;
                // Children of a killed Postgres see its end and go; until then the data are theirs.
                if log.contains("is still in use") && Instant::now() < deadline {
                    tokio::time::sleep(limits::POLL).await;
                    continue;
                }
                return Err(PostgresError::Start { log: if log.is_empty() { said } else { log } });
            }
            Err(other) => return Err(other),
        }
    }
}

/// Fetches the image that a start of this Postgres needs, where it needs one: that may take minutes.
pub async fn fetch(options: &Options) -> Result<(), PostgresError> {
    let layout = Layout::new(&options.data_dir)?;
    let seen = look(&layout).await?;
    match Programs::examine(&seen, &layout, options).await?.1 {
        Source::Image(_, false) => Programs::find(&seen, &layout, options).await.map(drop),
        Source::Image(_, true) | Source::Machine(_) => Ok(()),
    }
}

/// Whether a Postgres can be managed in this data folder, and out of what, or why not. Changes nothing.
pub async fn examine(options: &Options) -> Result<Source, PostgresError> {
    let data_dir = options.data_dir.as_path();
    let layout = Layout::new(data_dir)?;
    let seen = look(&layout).await?;
    let (account, source) = Programs::examine(&seen, &layout, options).await?;
    if let Some(owner) = seen.owner.filter(|owner| *owner != account.uid) {
        let we = rustix::process::geteuid().as_raw();
        return Err(PostgresError::ForeignOwner { path: layout.data, owner, we });
    }
    if matches!(source, Source::Image(..)) {
        return Ok(source);
    }
    let we = rustix::process::geteuid().as_raw();
    let (folder, data) = (account.blocked_by(data_dir), data_dir.to_owned());
    // A data folder of our own gets the right mode at the start; what lies above it is not ours to open.
    let ours = |folder: &Path| folder == data_dir && std::fs::metadata(folder).is_ok_and(|meta| uid(&meta) == we);
    if let Some(folder) = folder.filter(|folder| !ours(folder)) {
        return Err(PostgresError::NotEnterable { account: account.name, folder, data });
    }
    Ok(source)
}

fn uid(meta: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(meta)
}
