//! Table `resting_ports`: ports that were given back and may not be given again yet.

use sea_orm::entity::prelude::*;

/// One resting port.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "resting_ports")]
pub struct Model {
    /// Of which authority.
    #[sea_orm(primary_key, auto_increment = false)]
    pub authority: String,
    /// Which port.
    #[sea_orm(primary_key, auto_increment = false)]
    pub port: i32,
    /// The circuit that had it.
    pub key: String,
    /// The generation that gave it back.
    pub generation: i64,
    /// Whether every worker is known to have let it go.
    pub is_confirmed: bool,
    /// When it was given back.
    pub released_at_ms: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
