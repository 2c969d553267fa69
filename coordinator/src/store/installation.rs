//! Whose database this is, and how far the registry was that it fills.
//!
//! Invariant: there is one row, written once; only the position of the registry changes.

use entities::ids::{Epoch, InstallationId, Revision};
use entities::orm::{from_column, installation, to_column};
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;
use sea_orm::sea_query::Expr;

use super::{Store, StoreError};
use crate::publish::RegistryPosition;

/// The one row.
const ROW: i32 = 1;

// === impl Store ===

impl Store {
    /// Who this database belongs to; a new database becomes a new installation.
    pub async fn installation(&self, now_ms: i64) -> Result<InstallationId, StoreError> {
        if let Some(row) = installation::Entity::find_by_id(ROW).one(&self.database).await? {
            return Ok(InstallationId(row.installation_id));
        }
        let id = InstallationId::random();
        let row = installation::ActiveModel {
            id: Set(ROW),
            installation_id: Set(id.0),
            leader_epoch: Set(0),
            created_at_ms: Set(now_ms),
            registry_epoch: Set(None),
            registry_revision: Set(0),
        };
        match installation::Entity::insert(row).exec_without_returning(&self.database).await {
            Ok(_) => Ok(id),
            // Another coordinator set it up in the same moment.
            Err(error) => match installation::Entity::find_by_id(ROW).one(&self.database).await? {
                Some(row) => Ok(InstallationId(row.installation_id)),
                None => Err(error.into()),
            },
        }
    }

    /// How far the registry was when it was last looked at.
    pub async fn registry_position(&self) -> Result<Option<RegistryPosition>, StoreError> {
        let row = installation::Entity::find_by_id(ROW).one(&self.database).await?;
        Ok(row.and_then(|row| {
            let revision = Revision(from_column(row.registry_revision));
            row.registry_epoch.map(|epoch| RegistryPosition { epoch: Epoch(epoch), revision })
        }))
    }

    /// Notes how far the registry is.
    pub async fn record_registry_position(&self, position: RegistryPosition) -> Result<(), StoreError> {
        installation::Entity::update_many()
            .col_expr(installation::Column::RegistryEpoch, Expr::value(position.epoch.0))
            .col_expr(installation::Column::RegistryRevision, Expr::value(to_column(position.revision.0)))
            .exec(&self.database)
            .await?;
        Ok(())
    }
}
