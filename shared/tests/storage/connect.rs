//! Opening a database, the installation in it, and why a database is refused.

use std::collections::HashSet;
use std::time::Duration;

use shared::domain::Epoch;
use shared::storage::{NewUser, OpenError, Role, Store};
use sqlx::{Connection as _, PgConnection};

use crate::support::{BackEnd, Database, NOW, on_both_back_ends, within_ten_seconds};

on_both_back_ends![
    the_installation_is_created_once,
    another_number_of_partitions_is_refused,
    an_epoch_has_at_most_53_bits,
    processes_that_start_together_create_one_installation,
    a_write_completes_after_its_caller_is_dropped,
];

async fn the_installation_is_created_once(db: Database) {
    let again = Store::open(&db.url, Role::Gateway).await.unwrap();
    let installation = again.migrate(4, 12_345).await.unwrap();
    assert_eq!((installation.epoch, installation.partitions), (Epoch(77), 4));
    again.ping().await.unwrap();
}

async fn another_number_of_partitions_is_refused(db: Database) {
    let refused = db.store.migrate(8, 1).await;
    assert!(matches!(refused, Err(OpenError::Partitions { stored: 4, wanted: 8 })));
}

async fn an_epoch_has_at_most_53_bits(db: Database) {
    let store = Store::open(&db.another().await, Role::Worker).await.unwrap();
    let installation = store.migrate(1, u64::MAX).await.unwrap();
    assert_eq!(installation.epoch, Epoch((1 << 53) - 1));
}

async fn processes_that_start_together_create_one_installation(db: Database) {
    // It is a race, so it runs several times.
    for _ in 0..5 {
        let url = db.another().await;
        let starts = (0..4u64).map(|n| {
            let url = url.clone();
            tokio::spawn(async move {
                let store = Store::open(&url, Role::Gateway).await?;
                store.migrate(16, n).await
            })
        });
        let mut epochs = Vec::new();
        for start in starts.collect::<Vec<_>>() {
            epochs.push(start.await.unwrap().unwrap().epoch);
        }
        assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    }
}

#[tokio::test]
async fn an_unknown_url_scheme_is_refused() {
    for url in ["mysql://x", "", "roomcast.db", "postgresx://h/d"] {
        assert!(matches!(Store::open(url, Role::Worker).await, Err(OpenError::UnknownScheme)), "{url}");
    }
}

async fn a_write_completes_after_its_caller_is_dropped(db: Database) {
    let mut write = Box::pin(db.store.create_user(NewUser::for_tests("ann"), NOW));
    let _timed_out = tokio::time::timeout(Duration::ZERO, &mut write).await;
    drop(write);
    // The write continues in a task of its own.
    let is_written = async {
        while db.store.list_users("", 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within_ten_seconds(is_written).await;
}

/// Nothing listens on port 1.
#[tokio::test]
async fn an_unreachable_server_differs_from_an_invalid_url() {
    let silent = Store::open("postgres://nobody@127.0.0.1:1/none", Role::Worker).await;
    assert!(matches!(silent, Err(OpenError::Store(_))));
    let bad = Store::open("postgres://me:secret@h/d?sslmode=sometimes", Role::Worker).await;
    match bad {
        Err(error @ OpenError::BadUrl(_)) => assert!(!error.to_string().contains("secret"), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// It changes a setting that a database can override, since the tests share the server.
#[tokio::test]
async fn a_postgres_that_loses_commits_is_refused_in_one_line() {
    let db = Database::new(BackEnd::Postgres).await;
    let mut connection = PgConnection::connect(&db.url).await.unwrap();
    sqlx::query(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let refused = Store::open(&db.url, Role::Worker).await.unwrap_err();
    assert!(matches!(refused, OpenError::Unsafe(_)));
    let line = refused.to_string();
    assert!(line.contains("synchronous_commit = off") && !line.contains('\n'), "{line}");
}

#[tokio::test]
async fn a_healthy_connection_is_used_again() {
    let db = Database::new(BackEnd::Postgres).await;
    let mut connection = PgConnection::connect(&db.url).await.unwrap();
    let mut backends = async || -> HashSet<i32> {
        for _ in 0..10 {
            db.store.ping().await.unwrap();
        }
        let ours = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'roomcast-worker'";
        let pids: Vec<i32> = sqlx::query_scalar(ours).fetch_all(&mut connection).await.unwrap();
        pids.into_iter().collect()
    };
    let before = backends().await;
    let after = backends().await;
    assert!(!before.is_empty() && before.is_subset(&after), "{before:?} {after:?}");
}
