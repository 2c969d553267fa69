//! The status of circuits, and what the registry is known to have.
//!
//! Invariant: nothing here changes what a circuit is.

use entities::circuit::CircuitStatus;
use entities::ids::{AuthorityName, CircuitId, CircuitKey, Generation};
use entities::orm::{circuit, circuit_status, to_column, tombstone};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{Store, StoreError};

/// Well below the 32,766 parameters that SQLite takes in one statement.
const IDS_PER_STATEMENT: usize = 500;

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

    /// Lifts a circuit that still has generation `from` over `above`; answers its generation then.
    pub async fn raise_circuit(
        &self,
        key: &CircuitKey,
        from: Generation,
        above: Generation,
    ) -> Result<Option<Generation>, StoreError> {
        let raised = above.next();
        let result = circuit::Entity::update_many()
            .col_expr(circuit::Column::Generation, Expr::value(to_column(raised.0)))
            .filter(circuit::Column::Key.eq(key.as_str()))
            .filter(circuit::Column::Generation.eq(to_column(from.0)))
            .exec(&self.database)
            .await?;
        Ok((result.rows_affected == 1).then_some(raised))
    }

    /// Lifts a tombstone that still has generation `from` over `above`; answers its generation then.
    pub async fn raise_tombstone(
        &self,
        key: &CircuitKey,
        from: Generation,
        above: Generation,
    ) -> Result<Option<Generation>, StoreError> {
        let raised = above.next();
        let result = tombstone::Entity::update_many()
            .col_expr(tombstone::Column::Generation, Expr::value(to_column(raised.0)))
            .filter(tombstone::Column::Key.eq(key.as_str()))
            .filter(tombstone::Column::Generation.eq(to_column(from.0)))
            .exec(&self.database)
            .await?;
        Ok((result.rows_affected == 1).then_some(raised))
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

    /// Notes how many circuits are, all the same.
    pub async fn record_statuses(
        &self,
        ids: &[CircuitId],
        status: CircuitStatus,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        for chunk in ids.chunks(IDS_PER_STATEMENT) {
            circuit_status::Entity::update_many()
                .col_expr(circuit_status::Column::Status, Expr::value(status.as_str()))
                .col_expr(circuit_status::Column::ChangedAtMs, Expr::value(now_ms))
                .filter(circuit_status::Column::CircuitId.is_in(chunk.iter().map(|id| id.0)))
                .filter(circuit_status::Column::Status.ne(status.as_str()))
                .exec(&self.database)
                .await?;
        }
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
