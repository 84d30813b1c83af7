//! Backup and restore beside agents that do not want them, or want more of them than they may.

use super::{Cluster, Own, code, marker, run};
use rapidclaw::base::secret::sha256_digest;
use rapidclaw::server::backup::{self, Contents};
use rapidclaw::store::databases;

/// A neighbour with something to lose.
async fn neighbour(cluster: &Cluster) -> Own {
    let own = cluster.agent("neighbour").await;
    own.run(
        "CREATE TABLE kept (n int CHECK (n > 0)); INSERT INTO kept SELECT generate_series(1, 1000);
         CREATE SCHEMA s; CREATE VIEW s.v AS SELECT sum(n) FROM kept; CREATE INDEX ON kept (abs(n));
         CREATE TABLE s.tenants (n int); INSERT INTO s.tenants VALUES (7);
         ALTER TABLE s.tenants ENABLE ROW LEVEL SECURITY; ALTER TABLE s.tenants FORCE ROW LEVEL SECURITY;
         CREATE POLICY none ON s.tenants USING (current_setting('app.tenant', true) = n::text);
         SELECT lo_from_bytea(4711, 'large');",
    )
    .await;
    own
}

/// All of the neighbour's is there, where it belongs.
async fn is_whole(own: &Own) {
    assert_eq!(own.count("SELECT count(*) FROM public.kept").await, 1000);
    assert_eq!(own.count("SELECT sum::bigint FROM s.v").await, 500_500);
    // Rows that the agent's own policies hide from it, too.
    assert_eq!(own.count("SELECT count(*) FROM s.tenants").await, 0);
    let mut tenant = own.connect().await;
    run(&mut tenant, "SET app.tenant = '7'").await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT n::bigint FROM s.tenants").fetch_one(&mut tenant).await.unwrap();
    assert_eq!(seen, 7);
    assert_eq!(own.count("SELECT length(lo_get(4711))::bigint").await, 5);
    let strangers =
        "SELECT count(*) FROM pg_class WHERE relname IN ('kept', 'v', 'tenants') AND relowner <> current_user::regrole";
    assert_eq!(own.count(strangers).await, 0);
}

async fn back_up(cluster: &Cluster) -> Contents {
    // Beside a running server: its lock is held, so Postgres goes on.
    let data = cluster.path("data");
    let _server = std::fs::File::create(data.join("server.lock")).inspect(|lock| {
        lock.lock().unwrap();
    });
    backup::back_up(&data, &cluster.path("backup.tar")).await.unwrap()
}

/// All is lost but the archive and the key; then it is restored.
async fn restore(cluster: Cluster) -> (Cluster, Contents) {
    let key = cluster.path("data.key");
    let folder = cluster.end().await;
    let (archive, data) = (folder.path().join("backup.tar"), folder.path().join("restored"));
    let contents = backup::restore(&archive, &data, Some(&key), None).await.unwrap();
    (Cluster::on(folder, "restored").await, contents)
}

#[tokio::test]
async fn what_runs_at_backup_and_restore_runs_with_the_agents_rights() {
    // Given an agent whose constraints, indexes and generated columns call functions that want more,
    let cluster = Cluster::new().await;
    let marker = marker(cluster.folder.path());
    let attacker = cluster.agent("attacker").await;
    let program = format!("touch {}", marker.display());
    attacker
        .run(&format!(
            "CREATE TABLE ran (place text, who text, super text);
             CREATE FUNCTION strike(place text) RETURNS boolean LANGUAGE plpgsql AS $$
             DECLARE attempt text; BEGIN
               IF NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' THEN
                 INSERT INTO public.ran VALUES (place, session_user, current_setting('is_superuser'));
               END IF;
               FOREACH attempt IN ARRAY ARRAY[
                 $q$COPY (SELECT 1) TO PROGRAM '{program}'$q$,
                 $q$COPY (SELECT 1) TO '{marker}'$q$,
                 format('ALTER ROLE %I SUPERUSER', session_user),
                 $q$ALTER ROLE rapidclaw PASSWORD 'x'$q$,
                 $q$ALTER SYSTEM SET max_connections = 1$q$,
                 $q$SELECT pg_read_file('/etc/passwd')$q$,
                 $q$SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rapidclaw'$q$]
               LOOP
                 BEGIN EXECUTE attempt; EXCEPTION WHEN OTHERS THEN NULL; END;
               END LOOP;
               RETURN true;
             END $$;
             CREATE FUNCTION strike_fixed(place text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
               BEGIN RETURN public.strike(place); END $$;
             CREATE FUNCTION strike_definer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
               BEGIN PERFORM public.strike('trigger'); RETURN NEW; END $$;
             CREATE TABLE t (n int CHECK (public.strike('check')), g boolean GENERATED ALWAYS AS (public.strike_fixed('generated')) STORED);
             INSERT INTO t VALUES (1);
             CREATE INDEX i ON t ((public.strike_fixed('index')));
             CREATE TRIGGER struck BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION strike_definer();
             CREATE MATERIALIZED VIEW m AS SELECT public.strike('view');
             TRUNCATE ran;
             ALTER TABLE t ADD CHECK (public.strike('late'));
             DELETE FROM ran;
             CREATE SCHEMA evil;
             CREATE FUNCTION evil.format_type(oid, int) RETURNS text LANGUAGE sql AS $$ SELECT public.strike('shadow')::text $$;
             ALTER ROLE CURRENT_USER SET search_path = evil, pg_catalog, public;
             ALTER ROLE CURRENT_USER SET statement_timeout = '1ms'",
            marker = marker.display(),
        ))
        .await;
    let neighbour = neighbour(&cluster).await;

    // when all is backed up and restored,
    let contents = back_up(&cluster).await;
    assert_eq!(contents.missing, []);
    assert_eq!(contents.databases.len(), 3, "{:?}", contents.databases);
    let (cluster, contents) = restore(cluster).await;
    assert_eq!(contents.missing, []);
    let (attacker, neighbour) = (again(&cluster, &attacker).await, again(&cluster, &neighbour).await);

    // then its functions have run, as its own role and nobody else, and have got nothing;
    assert!(attacker.count("SELECT count(*) FROM public.ran").await > 0, "nothing of the attack ran");
    let others = "SELECT count(*) FROM public.ran WHERE who <> current_user OR super <> 'off'";
    assert_eq!(attacker.count(others).await, 0);
    assert!(!marker.exists(), "a program ran on the host");
    let rights = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'agent%' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)";
    assert_eq!(attacker.count(rights).await, 0);
    assert_eq!(attacker.count("SELECT count(*) FROM public.t").await, 1);
    // and the neighbour's is whole.
    is_whole(&neighbour).await;
    cluster.end().await;
}

/// The same agent in a restored cluster.
async fn again(cluster: &Cluster, own: &Own) -> Own {
    cluster.own(cluster.store.find_agent_by_id(own.agent.id).await.unwrap().unwrap())
}

#[tokio::test]
async fn an_agent_that_cannot_be_backed_up_is_named_and_the_rest_is_whole() {
    let cluster = Cluster::new().await;
    let (locker, closer, greedy) =
        (cluster.agent("locker").await, cluster.agent("closer").await, cluster.agent("greedy").await);
    let neighbour = neighbour(&cluster).await;

    // Given one that holds a lock for ever, and does not let its owner read,
    locker.run("CREATE TABLE t (n int)").await;
    let mut holds = locker.connect().await;
    run(&mut holds, "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; ALTER ROLE CURRENT_USER SET work_mem = '1GB'")
        .await
        .unwrap();

    // one of before this version, which owns its database: it made it a template, and closed it,
    let mut server = cluster.server_in("postgres").await;
    let name = &closer.name;
    run(&mut server, &format!("ALTER DATABASE {name} OWNER TO {name}")).await.unwrap();
    closer.run("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await;
    closer
        .run(&format!(
            "ALTER DATABASE {name} SET statement_timeout = '1ms'; ALTER DATABASE {name} SET default_transaction_read_only = on;
             ALTER DATABASE {name} SET row_security = on; ALTER DATABASE {name} SET search_path = nowhere;
             ALTER DATABASE {name} CONNECTION LIMIT 0; ALTER DATABASE {name} IS_TEMPLATE true"
        ))
        .await;
    assert_eq!(code(&closer.refused().await), "53300");

    // and one that has another password by now, all connections open and two thousand tables,
    greedy
        .run("DO $$ BEGIN FOR n IN 1..2000 LOOP EXECUTE format('CREATE TABLE t%s (n int)', n); IF n % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$")
        .await;
    let mut open = Vec::new();
    for _ in 0..databases::CONNECTIONS {
        open.push(greedy.connect().await);
    }
    run(&mut open[0], "ALTER ROLE CURRENT_USER PASSWORD 'changed'").await.unwrap();

    // when a backup is written,
    let contents = back_up(&cluster).await;

    // then only the first is not in it, and is named;
    let missing: Vec<&str> = contents.missing.iter().map(|one| &*one.database).collect();
    assert_eq!(missing, [&locker.name], "{:?}", contents.missing);
    assert!(contents.missing[0].why.contains("LOCK TABLE"), "{:?}", contents.missing);
    // its lock is still held: a backup ends nobody's work;
    run(&mut holds, "SELECT count(*) FROM t").await.unwrap();
    drop((holds, open, server));

    // and of the restored one all others are whole, and each can log in.
    let (cluster, contents) = restore(cluster).await;
    assert_eq!(contents.missing.len(), 1, "{:?}", contents.missing);
    is_whole(&again(&cluster, &neighbour).await).await;
    assert_eq!(again(&cluster, &closer).await.count("SELECT count(*) FROM public.t").await, 1);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(again(&cluster, &greedy).await.count(tables).await, 2000);
    assert_eq!(again(&cluster, &locker).await.count(tables).await, 0);
    cluster.end().await;
}

#[tokio::test]
async fn a_backup_beside_a_push_is_whole_and_without_it() {
    // Given a registry with content, a push that goes on, and a draft,
    let cluster = Cluster::new().await;
    let registry = cluster.path("data/registry");
    let uploads = registry.join("repositories/a/_uploads");
    // Content lies under its digest.
    let named = |content: &[u8]| sha256_digest(content).trim_start_matches("sha256:").to_owned();
    let (digest, other) = (named(&vec![7; 1 << 20]), named(&[2; 4096]));
    let blobs = registry.join("blobs/sha256").join(&digest[..2]);
    for folder in [&uploads, &blobs, &registry.join("repositories/a/_tags")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(blobs.join(&digest), vec![7; 1 << 20]).unwrap();
    std::fs::write(blobs.join(".draft"), "half").unwrap();
    std::fs::write(registry.join("repositories/a/_tags/latest"), &digest).unwrap();
    let upload = uploads.join("1");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    // It grows, and blobs come and go, for as long as the backup is written.
    let pushes = std::thread::spawn({
        let (draft, passing) = (blobs.join(".passing"), blobs.join(other));
        move || {
            use std::io::Write as _;
            let mut file = std::fs::File::create(&upload).unwrap();
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                file.write_all(&[1; 4096]).unwrap();
                std::fs::write(&draft, [2; 4096]).unwrap();
                std::fs::rename(&draft, &passing).unwrap();
                std::fs::remove_file(&passing).unwrap();
            }
        }
    });

    // when backups are written meanwhile, each can be read and restored.
    for _ in 0..3 {
        back_up(&cluster).await;
    }
    stop.send(()).unwrap();
    pushes.join().unwrap();
    let (cluster, _) = restore(cluster).await;
    let restored = cluster.path("restored/registry");
    let blobs = restored.join("blobs/sha256").join(&digest[..2]);
    assert_eq!(std::fs::read(blobs.join(&digest)).unwrap(), vec![7; 1 << 20]);
    assert_eq!(std::fs::read_to_string(restored.join("repositories/a/_tags/latest")).unwrap(), digest);
    assert!(!restored.join("repositories/a/_uploads").exists());
    assert!(!blobs.join(".draft").exists());
    cluster.end().await;
}
