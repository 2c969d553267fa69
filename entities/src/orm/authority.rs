//! Table `authorities`: the addresses that clients use.

use sea_orm::entity::prelude::*;

use super::RowError;
use crate::authority::Authority;

/// One authority.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "authorities")]
pub struct Model {
    /// Its name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// An [`Authority`] as JSON.
    pub settings: Json,
    /// When it changed last.
    pub updated_at_ms: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Authority {
    type Error = RowError;

    fn try_from(row: Model) -> Result<Self, RowError> {
        serde_json::from_value(row.settings).map_err(|error| RowError::new("authorities", row.name, error))
    }
}
