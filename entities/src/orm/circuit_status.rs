//! Table `circuit_status`: what changes often about a circuit, apart from the circuit itself.

use sea_orm::entity::prelude::*;

use crate::circuit::CircuitStatus;

/// The status of one circuit.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "circuit_status")]
pub struct Model {
    /// Which life of which circuit.
    #[sea_orm(primary_key, auto_increment = false)]
    pub circuit_id: Uuid,
    /// A word of [`CircuitStatus`].
    pub status: String,
    /// Since when.
    pub changed_at_ms: i64,
}

/// The status belongs to a circuit.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Whose it is.
    #[sea_orm(belongs_to = "super::circuit::Entity", from = "Column::CircuitId", to = "super::circuit::Column::Id")]
    Circuit,
}

impl Related<super::circuit::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Circuit.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The status as its type; a word of another version counts as not known to be served.
    pub fn circuit_status(&self) -> CircuitStatus {
        CircuitStatus::WORDS
            .iter()
            .find(|(word, _)| *word == self.status)
            .map_or(CircuitStatus::Pending, |(_, status)| *status)
    }
}
