//! The schema can be built, taken back and built again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use migrations::Migrator;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use sea_orm_migration::MigratorTrait;

async fn tables(database: &DatabaseConnection) -> Vec<String> {
    let query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let rows = database
        .query_all_raw(Statement::from_string(database.get_database_backend(), query))
        .await
        .expect("the schema can be read");
    rows.iter().map(|row| row.try_get::<String>("", "name").expect("a name")).collect()
}

#[tokio::test]
async fn the_schema_goes_up_down_and_up_again() {
    let database = Database::connect("sqlite::memory:").await.expect("in-memory SQLite");
    Migrator::up(&database, None).await.expect("up");
    let first = tables(&database).await;
    assert!(first.contains(&"circuits".to_owned()) && first.contains(&"resting_ports".to_owned()), "{first:?}");

    Migrator::down(&database, None).await.expect("down");
    assert_eq!(tables(&database).await, ["seaql_migrations"], "every table is taken back");

    Migrator::up(&database, None).await.expect("up again");
    assert_eq!(tables(&database).await, first);
}
