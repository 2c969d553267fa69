//! Table `installation`: the one row that says whose database this is.

use sea_orm::entity::prelude::*;

/// The one row, `id` 1.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "installation")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Names the installation; the registry carries the same.
    pub installation_id: Uuid,
    /// Counts leaders, so that one which lost its office cannot write any more.
    pub leader_epoch: i64,
    /// When the database was set up.
    pub created_at_ms: i64,
    /// The life of the registry in which `registry_revision` counts.
    pub registry_epoch: Option<Uuid>,
    /// A revision that the registry has reached in that life.
    pub registry_revision: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
