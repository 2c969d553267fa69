//! The status of circuits, and what the registry is known to have.
//!
//! Invariant: nothing here changes a circuit; its generation stays.

use entities::circuit::CircuitStatus;
use entities::ids::{AuthorityName, CircuitId, CircuitKey, Generation};
use entities::orm::{circuit, circuit_status, to_column};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{Store, StoreError};

impl Store {
    /// Notes how a circuit is and that the registry has this generation of it.
    pub async fn record_served(
        &self,
        id: CircuitId,
        key: &CircuitKey,
        generation: Generation,
        status: CircuitStatus,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let write = self.begin().await?;
        circuit::Entity::update_many()
            .col_expr(circuit::Column::PublishedGeneration, Expr::value(to_column(generation.0)))
            .filter(circuit::Column::Key.eq(key.as_str()))
            .filter(circuit::Column::PublishedGeneration.lt(to_column(generation.0)))
            .exec(write.connection())
            .await?;
        circuit_status::Entity::update_many()
            .col_expr(circuit_status::Column::Status, Expr::value(status.as_str()))
            .col_expr(circuit_status::Column::ChangedAtMs, Expr::value(now_ms))
            .filter(circuit_status::Column::CircuitId.eq(id.0))
            .filter(circuit_status::Column::Status.ne(status.as_str()))
            .exec(write.connection())
            .await?;
        write.commit().await
    }

    /// Notes that the registry has this generation of a circuit.
    pub async fn mark_published(&self, key: &CircuitKey, generation: Generation) -> Result<(), StoreError> {
        circuit::Entity::update_many()
            .col_expr(circuit::Column::PublishedGeneration, Expr::value(to_column(generation.0)))
            .filter(circuit::Column::Key.eq(key.as_str()))
            .filter(circuit::Column::PublishedGeneration.lt(to_column(generation.0)))
            .exec(&self.database)
            .await?;
        Ok(())
    }

    /// Notes that no live worker of an authority is left: nothing of it is served.
    pub async fn mark_authority_unserved(&self, authority: &AuthorityName, now_ms: i64) -> Result<u64, StoreError> {
        let circuits_of = Query::select()
            .column(circuit::Column::Id)
            .from(circuit::Entity)
            .and_where(circuit::Column::Authority.eq(authority.as_str()))
            .to_owned();
        let result = circuit_status::Entity::update_many()
            .col_expr(circuit_status::Column::Status, Expr::value(CircuitStatus::Unhealthy.as_str()))
            .col_expr(circuit_status::Column::ChangedAtMs, Expr::value(now_ms))
            .filter(circuit_status::Column::CircuitId.in_subquery(circuits_of))
            .filter(circuit_status::Column::Status.ne(CircuitStatus::Unhealthy.as_str()))
            .exec(&self.database)
            .await?;
        Ok(result.rows_affected)
    }
}
