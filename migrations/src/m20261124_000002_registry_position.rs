//! How far the registry was when it was last looked at, so that one which went back is noticed after a restart.
//!
//! Invariant: the two columns are written together; `registry_revision` counts in the life `registry_epoch`.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, uuid_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "installation";

#[expect(elided_lifetimes_in_paths, reason = "the trait's lifetimes cannot be named in the implementation")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column a statement.
        for column in [uuid_null("registry_epoch"), big_integer("registry_revision").default(0).take()] {
            manager.alter_table(Table::alter().table(Alias::new(TABLE)).add_column(column).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["registry_revision", "registry_epoch"] {
            let drop = Table::alter().table(Alias::new(TABLE)).drop_column(Alias::new(column)).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}
