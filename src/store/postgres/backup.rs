//! All that a managed Postgres holds, out and in again, by Postgres' own `pg_dump` and `pg_restore`: what an
//! older version wrote a newer one can read.

use super::programs::Programs;
use super::{Managed, Options, PostgresError, ROLE, look, open};
use sqlx::{Connection as _, Row as _};
use std::path::Path;

/// The roles, as statements, in the folder of a dump.
const ROLES: &str = "roles.sql";

/// What a dump holds beside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// The version of the programs that wrote it.
    pub postgres: u32,
    /// Its databases, in the order of their files.
    pub databases: Vec<String>,
}

impl Dump {
    /// Names of its files, all in one folder.
    pub fn files(&self) -> Vec<String> {
        [ROLES.to_owned()].into_iter().chain((0..self.databases.len()).map(file)).collect()
    }
}

/// Databases bear names that need not be file names.
fn file(index: usize) -> String {
    format!("{index}.dump")
}

impl Managed {
    /// Writes all databases and roles into `folder`; each database as it is at one moment.
    pub async fn dump(&self, folder: &Path) -> Result<Dump, PostgresError> {
        let failed = |source| PostgresError::Statement { action: "list the databases", source };
        let mut connection = open(&self.connect_options()).await.map_err(failed)?;
        let names =
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY datname";
        let rows = sqlx::query(names).fetch_all(&mut connection).await.map_err(failed)?;
        let _ = connection.close().await;
        let databases: Vec<String> = rows.iter().map(|row| row.get("datname")).collect();
        let programs = self.programs().await?;
        let roles = self.program(&programs, folder, "pg_dumpall", &["--roles-only"]).await?;
        // The server's own role is there wherever this is read.
        let own = [format!("CREATE ROLE {ROLE};"), format!("ALTER ROLE {ROLE} ")];
        let others: String = roles
            .lines()
            .filter(|line| own.iter().all(|own| !line.starts_with(own)))
            .flat_map(|line| [line, "\n"])
            .collect();
        let path = folder.join(ROLES);
        crate::base::paths::write_private(&path, others.as_bytes())
            .map_err(|source| PostgresError::Folder { path, source })?;
        for (index, database) in databases.iter().enumerate() {
            let target = folder.join(file(index)).display().to_string();
            self.program(&programs, folder, "pg_dump", &["-Fc", "-f", &target, "-d", database]).await?;
        }
        Ok(Dump { postgres: programs.major(), databases })
    }

    /// Reads a dump's files from `folder` into this Postgres, which has just been made.
    pub async fn restore(&self, folder: &Path, dump: &Dump) -> Result<(), PostgresError> {
        let programs = self.programs().await?;
        let roles = folder.join(ROLES).display().to_string();
        let quiet = ["-q", "-X", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", &roles];
        self.program(&programs, folder, "psql", &quiet).await?;
        for (index, database) in dump.databases.iter().enumerate() {
            let source = folder.join(file(index)).display().to_string();
            // The server's own database is there, empty; the agents' are made, with their owners.
            let into: &[&str] = if database == ROLE { &["-d", ROLE] } else { &["-C", "-d", "postgres"] };
            self.program(&programs, folder, "pg_restore", &[&["-e"], into, &[&source]].concat()).await?;
        }
        // A server of its own: what still runs of the old one is not taken for its replicas.
        let failed = |source| PostgresError::Statement { action: "give the restored server its own id", source };
        let mut connection = open(&self.connect_options()).await.map_err(failed)?;
        let forgotten = "DELETE FROM rapidclaw.settings WHERE name = 'server_id'";
        sqlx::query(forgotten).execute(&mut connection).await.map_err(failed)?;
        let _ = connection.close().await;
        Ok(())
    }

    /// Those that run it: of the image where one does.
    async fn programs(&self) -> Result<Programs, PostgresError> {
        let options = Options::new(self.layout.root.parent().unwrap_or(&self.layout.root));
        Ok(Programs::find(&look(&self.layout).await?, &self.layout, &options).await?.1)
    }

    /// As ourselves, whom the server's role is for: the files are ours.
    async fn program(
        &self,
        programs: &Programs,
        folder: &Path,
        name: &str,
        args: &[&str],
    ) -> Result<String, PostgresError> {
        let socket = self.socket.display().to_string();
        let words = [&[name, "-h", &socket, "-p", "5432", "-U", ROLE, "-w"], args].concat();
        programs.client(&self.layout, folder, &words).await
    }
}
