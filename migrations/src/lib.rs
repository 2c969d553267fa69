//! The history of the App Proxy's database schema, for SQLite and PostgreSQL alike.
//!
//! # Layout
//!
//! One file a migration, named `m<date>_<number>_<what>`; [`Migrator`] lists them in order.
//!
//! # Invariants
//!
//! * A migration that has been released never changes, so nothing here depends on our other crates: history must not
//!   move when entities do. Column names are spelled out in each file.
//! * Every migration can be taken back.
//! * Times are `big_integer` milliseconds since 1970-01-01T00:00:00Z: they compare the same way in every database.

use sea_orm_migration::prelude::*;

mod m20261124_000001_circuits;
mod m20261124_000002_registry_position;
mod m20261126_000003_target_health;
mod m20261126_000004_access_generation;

/// Applies and takes back the migrations.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_circuits::Migration),
            Box::new(m20261124_000002_registry_position::Migration),
            Box::new(m20261126_000003_target_health::Migration),
            Box::new(m20261126_000004_access_generation::Migration),
        ]
    }
}
