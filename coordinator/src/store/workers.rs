//! Workers and the authorities that they serve.
//!
//! Invariant: all workers of one authority say the same about it; the first one defines it, and it changes only
//! while no other live worker serves it.

use entities::authority::Authority;
use entities::ids::{AuthorityName, BootId, WorkerId};
use entities::orm::{authority, circuit, to_column, worker};
use entities::worker::{Heartbeat, Registration, WorkerStatus};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Store, StoreError, WriteTransaction, health};

/// One registered worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWorker {
    /// Its name.
    pub id: WorkerId,
    /// What it serves.
    pub authority: AuthorityName,
    /// How it is.
    pub status: WorkerStatus,
    /// The row.
    pub row: worker::Model,
}

/// How registering ended.
#[derive(Debug)]
pub enum RegisterOutcome {
    /// It is stored.
    Registered {
        /// Circuits whose host name followed a new domain; they need publishing.
        renamed: u64,
    },
    /// Another live worker says something else about the authority.
    AuthorityDiffers(Box<Authority>),
}

// === impl Store ===

impl Store {
    /// Every worker.
    pub async fn workers(&self) -> Result<Vec<StoredWorker>, StoreError> {
        let rows = worker::Entity::find().order_by_asc(worker::Column::Id).all(&self.database).await?;
        rows.into_iter().map(StoredWorker::try_from).collect()
    }

    /// One worker.
    pub async fn worker(&self, id: &WorkerId) -> Result<Option<StoredWorker>, StoreError> {
        let row = worker::Entity::find_by_id(id.as_str()).one(&self.database).await?;
        row.map(StoredWorker::try_from).transpose()
    }

    /// Every authority.
    pub async fn authorities(&self) -> Result<Vec<Authority>, StoreError> {
        let rows = authority::Entity::find().order_by_asc(authority::Column::Name).all(&self.database).await?;
        rows.into_iter().map(|row| Authority::try_from(row).map_err(StoreError::from)).collect()
    }

    /// One authority.
    pub async fn authority(&self, name: &AuthorityName) -> Result<Option<Authority>, StoreError> {
        let row = authority::Entity::find_by_id(name.as_str()).one(&self.database).await?;
        row.map(|row| Authority::try_from(row).map_err(StoreError::from)).transpose()
    }

    /// Stores a worker and what it says about its authority.
    pub async fn register_worker(
        &self,
        id: &WorkerId,
        registration: &Registration,
        now_ms: i64,
    ) -> Result<RegisterOutcome, StoreError> {
        self.retrying(|| self.try_register(id, registration, now_ms)).await
    }

    async fn try_register(
        &self,
        id: &WorkerId,
        registration: &Registration,
        now_ms: i64,
    ) -> Result<RegisterOutcome, StoreError> {
        let write = self.begin().await?;
        let claimed = &registration.authority;
        // The row is there before it is looked at, so that of two workers at a time one sees what the other says.
        define_authority(&write, claimed, now_ms).await?;
        let row = authority::Entity::find_by_id(claimed.name.as_str()).lock_exclusive().one(write.connection()).await?;
        let known = row.map(Authority::try_from).transpose()?;
        let mut renamed = 0;
        if let Some(known) = known.filter(|known| known != claimed) {
            let others = worker::Entity::find()
                .filter(worker::Column::Authority.eq(claimed.name.as_str()))
                .filter(worker::Column::Id.ne(id.as_str()))
                .filter(worker::Column::Status.ne(WorkerStatus::Lost.as_str()))
                .one(write.connection())
                .await?;
            if others.is_some() {
                return Ok(RegisterOutcome::AuthorityDiffers(Box::new(known)));
            }
            renamed = rename_hosts(&write, &known, claimed, now_ms).await?;
            store_authority(&write, claimed, now_ms).await?;
        }
        let known = worker::Entity::find_by_id(id.as_str()).one(write.connection()).await?;
        if known.is_some_and(|known| known.boot_id != registration.boot_id.0) {
            // What another run knew, this one has to find out anew.
            health::forget_worker(write.connection(), id).await?;
        }
        store_worker(&write, id, registration, now_ms).await?;
        write.commit().await?;
        Ok(RegisterOutcome::Registered { renamed })
    }

    /// Notes a sign of life; tells whether that run of the worker is registered.
    pub async fn record_heartbeat(&self, id: &WorkerId, beat: &Heartbeat, now_ms: i64) -> Result<bool, StoreError> {
        let result = worker::Entity::update_many()
            .col_expr(worker::Column::SeenAtMs, Expr::value(now_ms))
            .col_expr(worker::Column::Circuits, Expr::value(to_column(beat.circuits)))
            .col_expr(worker::Column::Connections, Expr::value(to_column(beat.connections)))
            .filter(worker::Column::Id.eq(id.as_str()))
            .filter(worker::Column::BootId.eq(beat.boot_id.0))
            .exec(&self.database)
            .await?;
        Ok(result.rows_affected == 1)
    }

    /// Notes how a worker is.
    pub async fn set_worker_status(&self, id: &WorkerId, status: WorkerStatus) -> Result<(), StoreError> {
        worker::Entity::update_many()
            .col_expr(worker::Column::Status, Expr::value(status.as_str()))
            .filter(worker::Column::Id.eq(id.as_str()))
            .filter(worker::Column::Status.ne(status.as_str()))
            .exec(&self.database)
            .await?;
        Ok(())
    }

    /// Forgets a worker, if it is still the run that leaves; tells whether it was there.
    pub async fn remove_worker(&self, id: &WorkerId, boot_id: Option<BootId>) -> Result<bool, StoreError> {
        let write = self.begin().await?;
        let mut query = worker::Entity::delete_many().filter(worker::Column::Id.eq(id.as_str()));
        if let Some(boot_id) = boot_id {
            query = query.filter(worker::Column::BootId.eq(boot_id.0));
        }
        let has_left = query.exec(write.connection()).await?.rows_affected == 1;
        if has_left {
            health::forget_worker(write.connection(), id).await?;
        }
        write.commit().await?;
        Ok(has_left)
    }
}

/// Stores what is said about an authority if nobody has described it yet.
async fn define_authority(write: &WriteTransaction, claimed: &Authority, now_ms: i64) -> Result<(), StoreError> {
    let insert = authority::Entity::insert(authority_row(claimed, now_ms)?);
    insert.on_conflict_do_nothing().exec_without_returning(write.connection()).await?;
    Ok(())
}

fn authority_row(claimed: &Authority, now_ms: i64) -> Result<authority::ActiveModel, StoreError> {
    Ok(authority::ActiveModel {
        name: Set(claimed.name.to_string()),
        settings: Set(serde_json::to_value(claimed)?),
        updated_at_ms: Set(now_ms),
    })
}

async fn store_authority(write: &WriteTransaction, claimed: &Authority, now_ms: i64) -> Result<(), StoreError> {
    let row = authority_row(claimed, now_ms)?;
    let replace = OnConflict::column(authority::Column::Name)
        .update_columns([authority::Column::Settings, authority::Column::UpdatedAtMs])
        .to_owned();
    authority::Entity::insert(row).on_conflict(replace).exec_without_returning(write.connection()).await?;
    Ok(())
}

async fn store_worker(
    write: &WriteTransaction,
    id: &WorkerId,
    registration: &Registration,
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = worker::ActiveModel {
        id: Set(id.to_string()),
        authority: Set(registration.authority.name.to_string()),
        boot_id: Set(registration.boot_id.0),
        version: Set(registration.version.clone()),
        api_url: Set(registration.api_url.clone()),
        weight: Set(i32::from(registration.weight)),
        status: Set(WorkerStatus::Lagging.as_str().to_owned()),
        circuits: Set(0),
        connections: Set(0),
        registered_at_ms: Set(now_ms),
        seen_at_ms: Set(now_ms),
    };
    let replace = OnConflict::column(worker::Column::Id)
        .update_columns([
            worker::Column::Authority,
            worker::Column::BootId,
            worker::Column::Version,
            worker::Column::ApiUrl,
            worker::Column::Weight,
            worker::Column::Status,
            worker::Column::Circuits,
            worker::Column::Connections,
            worker::Column::RegisteredAtMs,
            worker::Column::SeenAtMs,
        ])
        .to_owned();
    worker::Entity::insert(row).on_conflict(replace).exec_without_returning(write.connection()).await?;
    Ok(())
}

/// Lets the host names of an authority's circuits follow a new domain.
async fn rename_hosts(
    write: &WriteTransaction,
    known: &Authority,
    claimed: &Authority,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let (Some(old), Some(new)) = (&known.subdomains, &claimed.subdomains) else { return Ok(0) };
    if old.domain == new.domain {
        return Ok(0);
    }
    let suffix = format!(".{}", new.domain);
    let result = circuit::Entity::update_many()
        .col_expr(
            circuit::Column::Host,
            Expr::col(circuit::Column::Subdomain)
                .binary(sea_orm::sea_query::BinOper::Custom("||"), Expr::value(suffix)),
        )
        .col_expr(circuit::Column::Generation, Expr::col(circuit::Column::Generation).add(1))
        .col_expr(circuit::Column::UpdatedAtMs, Expr::value(now_ms))
        .filter(circuit::Column::Authority.eq(known.name.as_str()))
        .filter(circuit::Column::Host.is_not_null())
        .exec(write.connection())
        .await?;
    Ok(result.rows_affected)
}

// === impl StoredWorker ===

impl TryFrom<worker::Model> for StoredWorker {
    type Error = StoreError;

    fn try_from(row: worker::Model) -> Result<Self, StoreError> {
        Ok(Self { id: row.worker_id()?, authority: row.authority_name()?, status: row.worker_status()?, row })
    }
}
