//! Table `tombstones`: closed keys whose generation is still remembered.

use sea_orm::entity::prelude::*;

/// One closed key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tombstones")]
pub struct Model {
    /// Which key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// Whose workers served it.
    pub authority: String,
    /// The generation that closed it.
    pub generation: i64,
    /// When it was closed.
    pub closed_at_ms: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
