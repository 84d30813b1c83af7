//! Postgres' programs: those of this machine, else those of the official image (`postgres:N`), which the engine runs
//! on the same folders. The cluster is the same either way, and so are its user, its settings and its socket: what one
//! has made the other can run.
//!
//! Of the image its programs are used, and not its entrypoint: that one listens where the image says and wants a
//! password. Here nobody has one: the kernel says who connects.

use super::account::{self, Account};
use super::binaries::Binaries;
use super::cluster::{Layout, Seen, look, tail};
use super::error::PostgresError;
use super::files::{blocking, last_lines};
use super::options::{CONNECTION_BYTES, MIN_MAJOR, Options};
use crate::runtime::RuntimeError;
use crate::runtime::docker::programs::{ImagePrograms, Program, ProgramsError};
use crate::store::limits;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// The version of a new cluster that runs from the official image.
const IMAGE_MAJOR: u32 = 17;
/// The label of its containers: the folder that they work on.
const LABEL: &str = "rapidclaw.postgres";

/// Where the programs are.
#[derive(Debug, Clone)]
pub(super) enum Programs {
    Machine(Binaries),
    Image(Image),
}

/// Those of an image.
#[derive(Debug, Clone)]
pub(super) struct Image {
    programs: ImagePrograms,
    major: u32,
}

/// Which image, where the machine has no programs: the one asked for, else the last one, else the official one of
/// the data's version.
fn image_name(asked: Option<&str>, layout: &Layout, version: Option<u32>) -> String {
    let named = asked.map(str::to_owned).or_else(|| layout.recorded_image()).filter(|name| !name.is_empty());
    named.unwrap_or_else(|| format!("postgres:{}", version.unwrap_or(IMAGE_MAJOR)))
}

/// What is found without asking the engine: the machine's programs, or why the image's are wanted.
async fn on_this_machine(seen: &Seen, layout: &Layout, options: &Options) -> Result<Found, PostgresError> {
    let account = Account::for_data(seen.owner).await;
    if options.image.is_some() {
        return Ok(Found::Image(account, None));
    }
    let found = match &account {
        Ok(account) => Binaries::find(account, seen.version, &layout.data).await,
        // Of use only to somebody who may run them; root may ask them for their version.
        Err(_) => match Binaries::find(&Account::ourselves().await, seen.version, &layout.data).await {
            Err(error) => Err(error),
            Ok(_) => Err(PostgresError::NoAccount),
        },
    };
    match (account, found) {
        (Ok(account), Ok(binaries)) => Ok(Found::Machine(account, binaries)),
        // Another version came to the machine since an image made the data.
        (account, Err(error @ PostgresError::OtherVersion { .. })) if layout.image_record().is_file() => {
            Ok(Found::Image(account, Some(error)))
        }
        (account, Err(error)) if error.is_missing() => Ok(Found::Image(account, Some(error))),
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
    }
}

enum Found {
    Machine(Account, Binaries),
    /// With what the machine lacks; nothing where an image was asked for.
    Image(Result<Account, PostgresError>, Option<PostgresError>),
}

/// Where Postgres of a data folder comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The programs of this machine, of this version.
    Machine(u32),
    /// An image, and whether the engine has it.
    Image(String, bool),
}

impl Programs {
    /// The programs for what is there, and who is to run them. Fetches the image where that is wanted.
    pub async fn find(seen: &Seen, layout: &Layout, options: &Options) -> Result<(Account, Self), PostgresError> {
        let (account, missing) = match on_this_machine(seen, layout, options).await? {
            Found::Machine(account, binaries) => return Ok((account, Self::Machine(binaries))),
            Found::Image(account, missing) => (account, missing),
        };
        let account = match account {
            Err(PostgresError::NoAccount) => Account::of_image(),
            other => other?,
        };
        let name = image_name(options.image.as_deref(), layout, seen.version);
        let no_image = |source: ProgramsError| match source {
            ProgramsError::Runtime(source) => PostgresError::Container { doing: "run Postgres in a container", source },
            source => PostgresError::NoImage {
                image: name.clone(),
                missing: missing.as_ref().map(|missing| format!("{missing}, and ")).unwrap_or_default(),
                source: Box::new(source),
            },
        };
        let programs = Box::pin(ImagePrograms::of(&name)).await.map_err(no_image)?;
        // It has run these data before: Postgres itself looks whether it still can.
        if let Some(major) = seen.version.filter(|_| layout.recorded_image().is_some_and(|one| one == name)) {
            return Ok((account, Self::Image(Image { programs, major })));
        }
        let mut image = Image { programs, major: 0 };
        let job = Job { what: &format!("version-{}", std::process::id()), mounts: Vec::new(), limit: limits::START };
        let said = match image.run(layout, job, &["postgres", "--version"], &account).await {
            // It is not even there.
            Err(PostgresError::Container { source: RuntimeError::Refused { source, .. }, .. }) => {
                return Err(PostgresError::NotPostgres { image: name, said: source.to_string() });
            }
            said => said?,
        };
        image.major = super::binaries::major(&said).unwrap_or_default();
        match seen.version {
            Some(data) if data != image.major => {
                Err(PostgresError::OtherImage { folder: layout.data.clone(), data, image: name })
            }
            _ if image.major < MIN_MAJOR => {
                Err(PostgresError::NotPostgres { image: name, said: said.trim().to_owned() })
            }
            _ => Ok((account, Self::Image(image))),
        }
    }

    /// [`Programs::find`], but changes nothing.
    pub async fn examine(seen: &Seen, layout: &Layout, options: &Options) -> Result<(Account, Source), PostgresError> {
        match on_this_machine(seen, layout, options).await? {
            Found::Machine(account, binaries) => Ok((account, Source::Machine(binaries.major))),
            Found::Image(account, missing) => {
                let name = image_name(options.image.as_deref(), layout, seen.version);
                let there = match (Box::pin(ImagePrograms::has(&name)).await, missing) {
                    (Ok(there), _) => there,
                    // Where there is no engine either, what the machine lacks is the shorter way.
                    (Err(_), Some(missing)) => return Err(missing),
                    (Err(_), None) => false,
                };
                let account = account.or_else(|error| match error {
                    PostgresError::NoAccount => Ok(Account::of_image()),
                    other => Err(other),
                })?;
                Ok((account, Source::Image(name, there)))
            }
        }
    }

    pub fn major(&self) -> u32 {
        match self {
            Self::Machine(binaries) => binaries.major,
            Self::Image(image) => image.major,
        }
    }

    /// Whether it is this machine that the account has to find its way on.
    pub fn are_of_this_machine(&self) -> bool {
        matches!(self, Self::Machine(_))
    }

    /// `initdb` in the folder of everything.
    pub async fn initdb(&self, layout: &Layout, account: &Account, args: &[&str]) -> Result<String, PostgresError> {
        match self {
            Self::Machine(binaries) => account.run(&binaries.program("initdb"), args, &layout.root, limits::INIT).await,
            Self::Image(image) => {
                image.write_names(layout, account).await?;
                let words = [&["initdb"], args].concat();
                let job = Job { what: "initdb", mounts: mounts(layout), limit: limits::INIT };
                image.run(layout, job, &words, account).await
            }
        }
    }

    /// A client of Postgres that reads and writes files of ours in `folder`; as ourselves.
    pub async fn client(
        &self,
        layout: &Layout,
        folder: &Path,
        words: &[&str],
        limit: Duration,
    ) -> Result<String, PostgresError> {
        match self {
            Self::Machine(binaries) => {
                let program = binaries.other_program(words[0]).await;
                account::run(&program, &words[1..], Path::new("/"), limit, None).await
            }
            Self::Image(image) => {
                let we = Account::ourselves().await;
                let mut mounts = mounts(layout);
                mounts.push((folder.to_owned(), folder.to_owned(), false));
                let job = Job { what: &format!("client-{}", std::process::id()), mounts, limit };
                image.run(layout, job, words, &we).await
            }
        }
    }
}

/// A program that is run to its end.
struct Job<'a> {
    /// Part of its container's name.
    what: &'a str,
    mounts: Vec<(PathBuf, PathBuf, bool)>,
    limit: Duration,
}

impl Image {
    /// Runs a program to its end and gives what it wrote to stdout.
    async fn run(
        &self,
        layout: &Layout,
        job: Job<'_>,
        words: &[&str],
        account: &Account,
    ) -> Result<String, PostgresError> {
        let program = program(&layout.root, Some(job.what), words, account, job.mounts);
        let failed = |source: ProgramsError| match source {
            ProgramsError::Runtime(source) => PostgresError::Container { doing: "run a program of Postgres", source },
            source => PostgresError::NoImage {
                image: self.programs.image().to_owned(),
                missing: String::new(),
                source: Box::new(source),
            },
        };
        let ended = Box::pin(self.programs.run(&program, job.limit)).await.map_err(failed)?;
        if ended.code == 0 {
            return Ok(ended.out);
        }
        let said = last_lines(&format!("{}{}", ended.out, ended.err));
        Err(PostgresError::Failed { program: words.first().copied().unwrap_or_default().to_owned(), said })
    }

    /// Starts Postgres on the cluster and waits until its process is there. Like one that is started on this
    /// machine it outlives us.
    pub async fn start(&self, layout: &Layout, account: &Account) -> Result<(), PostgresError> {
        let failed = |source: ProgramsError| match source {
            ProgramsError::Runtime(source) => {
                PostgresError::Container { doing: "start Postgres in a container", source }
            }
            other => PostgresError::Start { log: other.to_string() },
        };
        self.write_names(layout, account).await?;
        layout.record_image(self.programs.image(), account)?;
        let _ = tokio::fs::remove_file(layout.start_log()).await;
        let (data, log) = (layout.data.display().to_string(), layout.start_log().display().to_string());
        // Its first words go where `pg_ctl` puts them.
        let bound = CONNECTION_BYTES >> 10;
        let script = format!("ulimit -d {bound} 2>/dev/null; exec postgres -D \"$0\" >\"$1\" 2>&1");
        let words = ["sh", "-c", &script, &data, &log];
        let program = program(&layout.root, None, &words, account, mounts(layout));
        Box::pin(self.programs.start(&program)).await.map_err(failed)?;
        let deadline = Instant::now() + limits::START;
        loop {
            if look(layout).await?.lives {
                return Ok(());
            }
            if !self.programs.runs(&program.name).await.map_err(failed)? || Instant::now() > deadline {
                return Err(PostgresError::Start { log: tail(layout).await });
            }
            tokio::time::sleep(limits::KEEP_EVERY).await;
        }
    }

    /// The image knows none of this machine's users: Postgres wants names for those who run it and who connect.
    async fn write_names(&self, layout: &Layout, account: &Account) -> Result<(), PostgresError> {
        let (layout, account, names) = (layout.clone(), account.clone(), account.passwd());
        blocking(move || layout.write_names(&names, &account)).await
    }
}

/// The folders of a cluster, under their own paths, and the names of who uses them.
fn mounts(layout: &Layout) -> Vec<(PathBuf, PathBuf, bool)> {
    let mut mounts = vec![(layout.root.clone(), layout.root.clone(), false)];
    if !layout.socket.starts_with(&layout.root) {
        mounts.push((layout.socket.clone(), layout.socket.clone(), false));
    }
    mounts.push((layout.names(), PathBuf::from("/etc/passwd"), true));
    mounts
}

fn program(
    place: &Path,
    what: Option<&str>,
    words: &[&str],
    account: &Account,
    mounts: Vec<(PathBuf, PathBuf, bool)>,
) -> Program {
    let place = place.display().to_string();
    let digest = crate::base::secret::token_hash(&place);
    let name = format!("rapidclaw-postgres-{}", crate::base::secret::hex(&digest[..6]));
    Program {
        name: what.map_or_else(|| name.clone(), |what| format!("{name}-{what}")),
        label: (LABEL, place),
        words: words.iter().map(|&word| word.to_owned()).collect(),
        user: (account.uid, account.gid),
        mounts,
    }
}

impl Layout {
    /// Names of users, for containers.
    fn names(&self) -> PathBuf {
        self.root.join("passwd")
    }

    fn write_names(&self, names: &str, account: &Account) -> Result<(), PostgresError> {
        super::cluster::write_for(account, &self.names(), names)
    }

    /// Which image ran Postgres last.
    fn image_record(&self) -> PathBuf {
        self.root.join("image")
    }

    fn recorded_image(&self) -> Option<String> {
        std::fs::read_to_string(self.image_record()).ok().map(|text| text.trim().to_owned())
    }

    fn record_image(&self, image: &str, account: &Account) -> Result<(), PostgresError> {
        super::cluster::write_for(account, &self.image_record(), &format!("{image}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_the_one_asked_for_else_the_last_one_else_that_of_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        assert_eq!(image_name(None, &layout, None), format!("postgres:{IMAGE_MAJOR}"));
        assert_eq!(image_name(None, &layout, Some(15)), "postgres:15");
        std::fs::create_dir(&layout.root).unwrap();
        std::fs::write(layout.image_record(), "hub.example.com/postgres:16\n").unwrap();
        assert_eq!(image_name(None, &layout, Some(16)), "hub.example.com/postgres:16");
        assert_eq!(image_name(Some("mine:1"), &layout, Some(16)), "mine:1");
    }

    #[test]
    fn a_container_bears_the_name_of_its_folder() {
        let account = Account::of_image();
        let made = |place: &str, what| program(Path::new(place), what, &["postgres"], &account, Vec::new());
        let (one, other) = (made("/var/lib/rapidclaw/postgres", None), made("/srv/postgres", None));
        assert_ne!(one.name, other.name);
        let job = made("/srv/postgres", Some("initdb"));
        assert_eq!(job.name, format!("{}-initdb", other.name));
        assert_eq!(job.label, (LABEL, "/srv/postgres".to_owned()));
    }
}
