//! The managed Postgres, for real: made, adopted, killed, stopped.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

/// A data folder that Postgres' user may enter also where we are root.
fn data_dir() -> (tempfile::TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let options = Options { durable: false, ..Options::new(folder.path().join("data")) };
    (folder, options)
}

fn pid(managed: &Managed) -> i32 {
    managed.layout.look().process.unwrap().pid
}

async fn run(managed: &Managed, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = open(&managed.connect_options()).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await.map(drop)
}

async fn ask(managed: &Managed, sql: &'static str) -> String {
    let mut connection = open(&managed.connect_options()).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn it_is_made_adopted_killed_stopped_and_keeps_its_data() {
    // Given a data folder without anything, two servers that start at once get the same Postgres.
    let (_folder, options) = data_dir();
    assert!(Managed::find(&options.data_dir).await.unwrap().is_none());
    let (one, two) = tokio::join!(Managed::ensure(&options), Managed::ensure(&options));
    let (one, two) = (one.unwrap(), two.unwrap());
    let first = pid(&one);
    assert_eq!(first, pid(&two));

    // It is private, in UTF-8, with checksums, and in a session of its own.
    assert_eq!(ask(&one, "SHOW listen_addresses").await, "");
    assert_eq!(ask(&one, "SHOW server_encoding").await, "UTF8");
    assert_eq!(ask(&one, "SHOW data_checksums").await, "on");
    assert_eq!(ask(&one, "SELECT current_user || '/' || current_database()").await, "rapidclaw/rapidclaw");
    assert_eq!(ask(&one, "SHOW statement_timeout").await, "30s");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&one.layout.root), mode(&one.socket)), (0o700, 0o700));
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{first}/stat")) {
        let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap();
        assert_eq!(session, first.to_string());
    }

    // Killed with an open connection, it comes back with what was committed.
    // (CHECKPOINT, as this one does not wait for the disk at a commit.)
    run(&one, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
    run(&one, "CHECKPOINT").await.unwrap();
    let open_one = open(&one.connect_options()).await.unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(first).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    let again = Managed::ensure(&options).await.unwrap();
    drop(open_one);
    assert_ne!(pid(&again), first);
    assert_eq!(ask(&again, "SELECT n::text FROM kept").await, "7");

    // Its number taken by another process (us), it starts all the same.
    let second = pid(&again);
    rustix::process::kill_process(rustix::process::Pid::from_raw(second).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    let path = options.data_dir.join("postgres/data/postmaster.pid");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen(&second.to_string(), &std::process::id().to_string(), 1)).unwrap();
    let again = Managed::ensure(&options).await.unwrap();
    assert_eq!(ask(&again, "SELECT n::text FROM kept").await, "7");

    // Stopped, it is gone, and a stop of what is gone is done.
    again.clone().stop().await.unwrap();
    assert!(Managed::find(&options.data_dir).await.unwrap().is_none());
    again.stop().await.unwrap();

    // What Postgres says on a start that fails is in the error.
    let data = options.data_dir.join("postgres/data");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Managed::ensure(&options).await.unwrap_err();
    assert!(matches!(&error, PostgresError::Start { log } if log.contains("invalid permissions")), "{error}");

    // Data of another version are refused before anything is touched.
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9.6\n").unwrap();
    let error = Managed::ensure(&options).await.unwrap_err();
    assert!(matches!(error, PostgresError::OtherVersion { data: 9, .. }), "{error}");
}

#[tokio::test]
async fn a_long_path_gets_a_socket_elsewhere_that_a_stranger_cannot_prepare() {
    let (_folder, mut options) = data_dir();
    options.data_dir = options.data_dir.join("x".repeat(60)).join("y".repeat(60));
    let layout = Layout::new(&options.data_dir).unwrap();
    assert!(layout.socket.starts_with("/tmp"));
    if crate::base::paths::is_root() {
        std::fs::create_dir(&layout.socket).unwrap();
        std::os::unix::fs::chown(&layout.socket, Some(4_000_001), None).unwrap();
        let error = Managed::ensure(&options).await.unwrap_err();
        assert!(matches!(error, PostgresError::ForeignOwner { owner: 4_000_001, .. }), "{error}");
        std::fs::remove_dir(&layout.socket).unwrap();
    }
    let managed = Managed::ensure(&options).await.unwrap();
    assert_eq!(managed.socket(), layout.socket);
    assert!(Managed::find(&options.data_dir).await.unwrap().is_some());
    managed.stop().await.unwrap();
    std::fs::remove_dir_all(&layout.socket).unwrap();
}

#[tokio::test]
async fn a_private_folder_above_is_named_with_the_remedy() {
    if !crate::base::paths::is_root() {
        return; // Only root runs Postgres as another user.
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let error = Managed::ensure(&Options::new(folder.path().join("data"))).await.unwrap_err();
    assert!(matches!(&error, PostgresError::NotEnterable { .. }), "{error}");
    assert!(error.hint().unwrap().starts_with(&format!("`chmod o+x {}`", folder.path().display())));
}

#[tokio::test]
async fn a_database_given_by_url_is_checked_and_its_password_never_told() {
    let database = crate::store::test_database::TestDatabase::new().await;
    let options = connect(&database.url()).await.unwrap();
    let pool = pool(options, 2);
    let user: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&pool).await.unwrap();
    assert_eq!(user, "rapidclaw");
    pool.close().await;

    let none = connect("postgres://someone:hunter2@127.0.0.1:1/none").await.unwrap_err();
    assert_eq!(none.to_string(), "could not connect to the database at 127.0.0.1:1/none");
    let odd = connect("mysql://someone:hunter2@h/d").await.unwrap_err();
    for error in [&none, &odd] {
        let whole = format!("{error:?}{error}{:?}", error.hint());
        assert!(!whole.contains("hunter2"), "{whole}");
    }
}
