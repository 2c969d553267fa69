//! Table `workers`: the edges that have registered.

use sea_orm::entity::prelude::*;

use super::RowError;
use crate::ids::{AuthorityName, WorkerId};
use crate::worker::WorkerStatus;

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "workers")]
pub struct Model {
    /// Its name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// What it serves.
    pub authority: String,
    /// Which run of the process.
    pub boot_id: Uuid,
    /// The program's version.
    pub version: String,
    /// Where the coordinator reaches it.
    pub api_url: String,
    /// Its share of the traffic.
    pub weight: i32,
    /// A word of [`WorkerStatus`].
    pub status: String,
    /// Circuits in its table, as it said last.
    pub circuits: i64,
    /// Client connections, as it said last.
    pub connections: i64,
    /// When this run registered.
    pub registered_at_ms: i64,
    /// The last sign of life.
    pub seen_at_ms: i64,
}

/// None.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The name as its type.
    pub fn worker_id(&self) -> Result<WorkerId, RowError> {
        self.id.parse().map_err(|error| RowError::new("workers", &self.id, error))
    }

    /// What it serves, as its type.
    pub fn authority_name(&self) -> Result<AuthorityName, RowError> {
        self.authority.parse().map_err(|error| RowError::new("workers", &self.id, error))
    }

    /// The status as its type.
    pub fn worker_status(&self) -> Result<WorkerStatus, RowError> {
        WorkerStatus::from_word(&self.status).ok_or_else(|| RowError::new("workers", &self.id, "unknown status"))
    }
}
