//! Table `bad_ports`: ports that a worker could not bind.

use sea_orm::entity::prelude::*;

/// One port that something else holds.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "bad_ports")]
pub struct Model {
    /// Of which authority.
    #[sea_orm(primary_key, auto_increment = false)]
    pub authority: String,
    /// Which port.
    #[sea_orm(primary_key, auto_increment = false)]
    pub port: i32,
    /// Why, as the worker said.
    pub code: String,
    /// When.
    pub reported_at_ms: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
