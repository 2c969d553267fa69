//! What workers say about the targets of circuits.
//!
//! Invariant: a row goes with its circuit; whose worker is gone or lost counts for nothing.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, boolean, integer, string, uuid};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "target_health";

#[expect(elided_lifetimes_in_paths, reason = "the trait's lifetimes cannot be named in the implementation")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Alias::new(TABLE))
            .col(uuid("circuit_id"))
            .col(string("worker_id"))
            .col(string("host"))
            .col(integer("port"))
            .col(boolean("is_healthy"))
            .col(big_integer("changed_at_ms"))
            .primary_key(
                Index::create()
                    .col(Alias::new("circuit_id"))
                    .col(Alias::new("worker_id"))
                    .col(Alias::new("host"))
                    .col(Alias::new("port")),
            )
            .foreign_key(
                ForeignKey::create()
                    .name("fk_target_health_circuit")
                    .from(Alias::new(TABLE), Alias::new("circuit_id"))
                    .to(Alias::new("circuits"), Alias::new("id"))
                    .on_delete(ForeignKeyAction::Cascade),
            )
            .to_owned();
        manager.create_table(table).await?;
        let by_worker = Index::create()
            .name("ix_target_health_worker")
            .table(Alias::new(TABLE))
            .col(Alias::new("worker_id"))
            .to_owned();
        manager.create_index(by_worker).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(Alias::new(TABLE)).to_owned()).await
    }
}
