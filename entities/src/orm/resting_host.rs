//! Table `resting_hosts`: subdomains that were given back and are kept from strangers for a while.

use sea_orm::entity::prelude::*;

/// One resting name.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "resting_hosts")]
pub struct Model {
    /// The whole name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub host: String,
    /// Who may have it again at once.
    pub tenant: String,
    /// When it was given back.
    pub released_at_ms: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
