//! What an agent's own database may take of what all use.

use super::{Cluster, code, run};

#[tokio::test]
async fn a_database_that_is_too_large_is_read_only_until_it_is_smaller() {
    let cluster = Cluster::new().await;
    let (large, small) = (cluster.agent("large").await, cluster.agent("small").await);
    // An empty database has 7 to 8 MiB.
    let most = 24 << 20;
    assert_eq!(cluster.store.bound_databases(most).await.unwrap(), []);
    large.run("CREATE TABLE t AS SELECT repeat(md5(n::text), 30) AS text FROM generate_series(1, 20000) n").await;

    // Given one that is over its bound, then it is named, its sessions end, and new ones cannot write;
    let mut session = large.connect().await;
    let full = cluster.store.bound_databases(most).await.unwrap();
    assert_eq!(full.iter().map(|one| (&*one.name, one.is_new)).collect::<Vec<_>>(), [("large", true)]);
    assert!(run(&mut session, "SELECT 1").await.is_err());
    let mut session = large.connect().await;
    let refused = run(&mut session, "INSERT INTO t VALUES ('more')").await.unwrap_err();
    assert_eq!(code(&refused), "25006", "{refused}");
    assert!(!cluster.store.bound_databases(most).await.unwrap()[0].is_new);
    small.run("CREATE TABLE t (n int)").await;

    // what grows all the same is closed;
    for sql in ["SET default_transaction_read_only = off", "INSERT INTO t SELECT text FROM t"] {
        run(&mut session, sql).await.unwrap();
    }
    assert!(cluster.store.bound_databases(most).await.unwrap()[0].is_new);
    assert_eq!(code(&large.refused().await), "53300");

    // and once it is smaller (or its share larger) all is as before.
    assert_eq!(cluster.store.bound_databases(1 << 40).await.unwrap(), []);
    large.run("TRUNCATE t; INSERT INTO t VALUES ('again')").await;
    assert_eq!(cluster.store.bound_databases(most).await.unwrap(), []);
    drop(session);
    cluster.end().await;
}

#[tokio::test]
async fn an_agent_takes_neither_all_locks_nor_all_memory() {
    let cluster = Cluster::new().await;
    let (greedy, calm) = (cluster.agent("greedy").await, cluster.agent("calm").await);
    let (mut locks, mut steady) = (greedy.connect().await, calm.connect().await);

    // One that takes ten times the locks of any schema loses its session; nobody else does.
    run(&mut locks, "SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 30000) n").await.unwrap();
    let ended = cluster.store.end_greedy_sessions().await.unwrap();
    assert_eq!(ended.iter().map(|one| &*one.database).collect::<Vec<_>>(), [&greedy.name], "{ended:?}");
    assert!(ended[0].why.contains("locks"), "{ended:?}");
    assert!(run(&mut locks, "SELECT 1").await.is_err());
    run(&mut steady, "BEGIN; CREATE TABLE t (n int); COMMIT").await.unwrap();

    // One that asks for the machine's memory gets an error, and Postgres goes on.
    let mut memory = greedy.connect().await;
    let much = "SET work_mem = '64GB'; WITH x AS MATERIALIZED (SELECT repeat('x', 1000000) FROM generate_series(1, 4000)) SELECT count(*) FROM x";
    let refused = run(&mut memory, much).await.unwrap_err();
    assert_eq!(code(&refused), "53200", "{refused}");
    run(&mut memory, "SELECT 1").await.unwrap();
    run(&mut steady, "INSERT INTO t VALUES (1)").await.unwrap();
    // Nor may it write what it likes beside its tables.
    let sorts = "SET work_mem = '64kB'; SELECT count(*) FROM (SELECT repeat(md5(n::text), 100) FROM generate_series(1, 1000000) n ORDER BY 1) x";
    let refused = run(&mut memory, sorts).await.unwrap_err();
    assert_eq!(code(&refused), "53400", "{refused}");
    drop((memory, steady, locks));
    cluster.end().await;
}
