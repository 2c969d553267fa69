//! Closed keys whose generation is still remembered.
//!
//! Invariant: a tombstone is forgotten only at the generation that was looked at, so a key that was opened and closed
//! again meanwhile keeps its newer one.

use entities::ids::{AuthorityName, CircuitKey, Generation, OwnerId};
use entities::orm::{from_column, resting_port, to_column, tombstone};
use sea_orm::sea_query::Query;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::circuits::Closed;
use super::{Store, StoreError};

/// A closed key whose generation is remembered.
#[derive(Debug, Clone)]
pub struct Tombstone {
    /// Which key.
    pub key: CircuitKey,
    /// Whose workers served it.
    pub authority: AuthorityName,
    /// The generation that closed it.
    pub generation: Generation,
    /// When.
    pub closed_at_ms: i64,
}

// === impl Store ===

impl Store {
    /// The tombstone of a key.
    pub async fn tombstone(&self, key: &CircuitKey) -> Result<Option<Tombstone>, StoreError> {
        let found = tombstone::Entity::find_by_id(key.as_str()).one(&self.database).await?;
        found.map(Tombstone::try_from).transpose()
    }

    /// The tombstones of a session or endpoint.
    pub async fn tombstones_of(&self, owner: &OwnerId) -> Result<Vec<Tombstone>, StoreError> {
        let prefix = format!("{owner}:");
        let rows = tombstone::Entity::find()
            .filter(tombstone::Column::Key.starts_with(prefix.as_str()))
            .all(&self.database)
            .await?;
        // `LIKE` takes an underscore for any letter, and SQLite's knows no case.
        rows.into_iter().filter(|row| row.key.starts_with(&prefix)).map(Tombstone::try_from).collect()
    }

    /// Tombstones that were closed before `closed_before_ms`, the oldest first. One whose port some worker may still
    /// serve is kept: the revision that closed it is what that worker must come to.
    pub async fn buriable_tombstones(&self, closed_before_ms: i64, limit: u64) -> Result<Vec<Tombstone>, StoreError> {
        let unconfirmed = Query::select()
            .column(resting_port::Column::Key)
            .from(resting_port::Entity)
            .and_where(resting_port::Column::IsConfirmed.eq(false))
            .to_owned();
        let rows = tombstone::Entity::find()
            .filter(tombstone::Column::ClosedAtMs.lt(closed_before_ms))
            .filter(tombstone::Column::Key.not_in_subquery(unconfirmed))
            .order_by_asc(tombstone::Column::ClosedAtMs)
            .limit(limit)
            .all(&self.database)
            .await?;
        rows.into_iter().map(Tombstone::try_from).collect()
    }

    /// Every tombstone.
    pub async fn all_tombstones(&self) -> Result<Vec<Tombstone>, StoreError> {
        let rows = tombstone::Entity::find().all(&self.database).await?;
        rows.into_iter().map(Tombstone::try_from).collect()
    }

    /// Forgets a closed key, unless it has been opened and closed again since.
    pub async fn forget_tombstone(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        tombstone::Entity::delete_many()
            .filter(tombstone::Column::Key.eq(tombstone.key.as_str()))
            .filter(tombstone::Column::Generation.eq(to_column(tombstone.generation.0)))
            .exec(&self.database)
            .await?;
        Ok(())
    }
}

// === impl Tombstone ===

impl From<Tombstone> for Closed {
    fn from(tombstone: Tombstone) -> Self {
        Self { key: tombstone.key, authority: tombstone.authority, generation: tombstone.generation }
    }
}

impl TryFrom<tombstone::Model> for Tombstone {
    type Error = StoreError;

    fn try_from(row: tombstone::Model) -> Result<Self, StoreError> {
        let unreadable = |reason: String| {
            StoreError::Row(entities::orm::RowError { table: "tombstones", row: row.key.clone(), reason })
        };
        Ok(Self {
            key: row.key.parse().map_err(|error| unreadable(format!("{error}")))?,
            authority: row.authority.parse().map_err(|error| unreadable(format!("{error}")))?,
            generation: Generation(from_column(row.generation)),
            closed_at_ms: row.closed_at_ms,
        })
    }
}
