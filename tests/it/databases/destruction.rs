//! An agent's database goes when the agent does, whatever the agent holds.

use super::{Cluster, run};
use std::time::Duration;

/// What a destruction may take: sessions that stand in the way are ended, none is waited for.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn nothing_that_an_agent_holds_keeps_its_database() {
    // Given a Postgres that takes prepared transactions and logical slots (an operator's ALTER SYSTEM),
    let cluster = Cluster::new().await;
    let mut server = cluster.server_in("postgres").await;
    for sql in ["ALTER SYSTEM SET max_prepared_transactions = 5", "ALTER SYSTEM SET wal_level = logical"] {
        run(&mut server, sql).await.unwrap();
    }
    drop(server);
    let folder = cluster.end().await;
    let cluster = Cluster::on(folder, "data").await;
    let mut server = cluster.server_in("postgres").await;
    let hoarder = cluster.agent("hoarder").await;
    let name = &hoarder.name;
    // one of before this version, which owns its database and made it a template,
    run(&mut server, &format!("ALTER DATABASE {name} OWNER TO {name}")).await.unwrap();
    run(&mut server, &format!("ALTER ROLE {name} REPLICATION")).await.unwrap();
    hoarder.run("CREATE TABLE t (n int)").await;
    hoarder.run("SELECT pg_create_logical_replication_slot('kept', 'test_decoding')").await;
    hoarder.run("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s kept'").await;
    hoarder.run(&format!("ALTER DATABASE {name} IS_TEMPLATE true; ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    // and sessions that hold the rows of the database, of the role and of its settings.
    let mut holds = Vec::new();
    for sql in [
        "BEGIN; LOCK TABLE t IN SHARE MODE",
        &format!("BEGIN; ALTER DATABASE {name} SET work_mem = '1MB'"),
        "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'other'",
        "BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '1MB'",
        &format!("BEGIN; COMMENT ON DATABASE {name} IS 'held'"),
    ] {
        let mut session = hoarder.connect().await;
        run(&mut session, "SET lock_timeout = '100ms'").await.unwrap();
        // Of two that want the same row the second waits in vain: the first holds it.
        let _ = run(&mut session, sql).await;
        holds.push(session);
    }

    // When the agent is deployed again and then destroyed, neither waits for what it holds,
    let password = rapidclaw::store::databases::password(&cluster.key, hoarder.agent.id);
    tokio::time::timeout(SOON, cluster.store.ensure_database(&hoarder.agent, &password)).await.unwrap().unwrap();
    let dropped = tokio::time::timeout(SOON, cluster.store.drop_database(&hoarder.agent)).await;
    dropped.expect("a destruction does not wait for an agent").unwrap();

    // and nothing is left of it.
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_database WHERE datname LIKE 'agent%') + (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'agent%')
         + (SELECT count(*) FROM pg_prepared_xacts) + (SELECT count(*) FROM pg_replication_slots)",
    )
    .fetch_one(&mut server)
    .await
    .unwrap();
    assert_eq!(left, 0);
    cluster.end().await;
}

#[tokio::test]
async fn an_agent_owns_what_is_in_its_database_and_not_the_database() {
    let cluster = Cluster::new().await;
    let own = cluster.agent("own").await;
    let name = &own.name;
    let mut session = own.connect().await;
    for sql in [
        format!("ALTER DATABASE {name} IS_TEMPLATE true"),
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!("ALTER DATABASE {name} CONNECTION LIMIT 0"),
        format!("ALTER DATABASE {name} SET session_preload_libraries = 'x'"),
        format!("GRANT CONNECT ON DATABASE {name} TO PUBLIC"),
        format!("ALTER ROLE {name} SET session_preload_libraries = 'x'"),
        format!("ALTER ROLE {name} CONNECTION LIMIT -1"),
        "SET temp_file_limit = -1".to_owned(),
        "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION pg_notify()".to_owned(),
        "SELECT pg_create_physical_replication_slot('slot', true)".to_owned(),
        "CREATE DATABASE another".to_owned(),
    ] {
        let refused = run(&mut session, &sql).await;
        // A GRANT without the right to it is a warning, and gives nothing.
        assert!(refused.is_err() || sql.starts_with("GRANT"), "{sql}");
    }
    let public = "SELECT count(*) FROM pg_database WHERE datname = current_database() AND has_database_privilege('public', oid, 'CONNECT')";
    assert_eq!(own.count(public).await, 0);
    // What migrations do works.
    for sql in [
        "CREATE TABLE t (n int); CREATE SCHEMA s; CREATE EXTENSION IF NOT EXISTS pgcrypto; CREATE PUBLICATION p FOR TABLE t",
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TEMP TABLE x (n int)",
    ] {
        run(&mut session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    drop(session);
    cluster.end().await;
}
