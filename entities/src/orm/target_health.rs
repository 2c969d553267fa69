//! Table `target_health`: what a worker says about one target of a circuit.

use sea_orm::entity::prelude::*;

/// One worker's word on one target.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "target_health")]
pub struct Model {
    /// Which life of which circuit.
    #[sea_orm(primary_key, auto_increment = false)]
    pub circuit_id: Uuid,
    /// Who says it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub worker_id: String,
    /// Where the target is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub host: String,
    /// Where it listens.
    #[sea_orm(primary_key, auto_increment = false)]
    pub port: i32,
    /// Whether it works.
    pub is_healthy: bool,
    /// Since when.
    pub changed_at_ms: i64,
}

/// Nothing is reached from here.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
