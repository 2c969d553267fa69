//! Which schemas a coordinator runs on.

use coordinator::store::database::{self, DatabaseConfig};
use coordinator::store::{SchemaPolicy, Store, StoreError};
use sea_orm::{ConnectionTrait, Database};

use crate::harness::Ground;

fn shared(ground: &Ground) -> DatabaseConfig {
    DatabaseConfig { schema: SchemaPolicy::Require, ..ground.database() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_database_is_migrated_only_when_somebody_says_so() {
    let ground = Ground::new();
    let shared = shared(&ground);
    let refused = Store::open(&shared).await;
    assert!(matches!(refused, Err(StoreError::OldSchema(pending)) if pending > 0), "{refused:?}");
    assert!(database::schema(&shared).await.unwrap().iter().all(|step| step.is_known && !step.is_applied));
    database::migrate(&shared).await.unwrap();
    assert!(database::schema(&shared).await.unwrap().iter().all(|step| step.is_known && step.is_applied));
    Store::open(&shared).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_a_later_program_is_left_alone() {
    let ground = Ground::new();
    let config = ground.database();
    Store::open(&config).await.unwrap();
    let database = Database::connect(&config.url).await.unwrap();
    let later = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_later', 0)";
    database.execute_unprepared(later).await.unwrap();
    for config in [&config, &shared(&ground)] {
        let refused = Store::open(config).await;
        let names_it = |name: &str| name == "m29990101_000001_later";
        assert!(matches!(&refused, Err(StoreError::NewerSchema(name)) if names_it(name)), "{refused:?}");
    }
    assert!(database::schema(&config).await.unwrap().iter().any(|step| !step.is_known));
}
