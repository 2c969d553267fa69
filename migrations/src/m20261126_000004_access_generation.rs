//! Which generation of a circuit wrote its access rules: what opened it before that opens it no more.
//!
//! Invariant: circuits that were there before have the generation 0, as their edges read it too.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "circuits";
const COLUMN: &str = "access_generation";

#[expect(elided_lifetimes_in_paths, reason = "the trait's lifetimes cannot be named in the implementation")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = Table::alter().table(Alias::new(TABLE)).add_column(big_integer(COLUMN).default(0)).to_owned();
        manager.alter_table(column).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = Table::alter().table(Alias::new(TABLE)).drop_column(Alias::new(COLUMN)).to_owned();
        manager.alter_table(column).await
    }
}
