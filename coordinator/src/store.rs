//! The truth: circuits, workers and resting slots in PostgreSQL or SQLite.
//!
//! Invariant: this folder is the only place with queries, and every change is one transaction. Rules about time and
//! slots come from outside ([`crate::slots`]); the store asks them inside of the transaction.

mod circuits;
mod rests;
mod status;
mod tombstones;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use entities::ids::InstallationId;
use entities::orm::{RowError, installation};
use migrations::Migrator;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ActiveValue::Set, ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    SqlErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use circuits::{
    ChangeOutcome, CloseTarget, Closed, ListFilter, MoveOutcome, NewCircuit, OpenOutcome, SlotRefusal, StoredCircuit,
};
pub use rests::{SlotCounts, UnconfirmedPort};
pub use tombstones::Tombstone;
pub use workers::{RegisterOutcome, StoredWorker};

/// How often a transaction that lost a race is tried again.
const MAX_ATTEMPTS: usize = 5;

/// Connections to the database. SQLite has one writer at a time; readers beside it do not wait.
const MAX_CONNECTIONS: u32 = 8;

/// How long a request waits for a connection or for SQLite's write lock.
const WAIT_FOR_DATABASE: Duration = Duration::from_secs(5);

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or not as it should.
    #[error("the database failed: {0}")]
    Database(#[from] DbErr),
    /// A row was written by something else.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A value that we made does not fit into its column.
    #[error("a value cannot be stored: {0}")]
    Encode(#[from] serde_json::Error),
    /// The database was busy for longer than a request waits.
    #[error("the database is busy")]
    Busy,
}

impl StoreError {
    /// Whether another transaction was faster, so that trying again sees what it did.
    fn is_lost_race(&self) -> bool {
        match self {
            Self::Database(error) => matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))),
            Self::Row(_) | Self::Encode(_) | Self::Busy => false,
        }
    }
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    database: DatabaseConnection,
    /// SQLite lets one connection write at a time and makes others poll for it; waiting here is fair and instant.
    writers: Arc<Semaphore>,
}

/// A transaction that may write.
struct WriteTransaction {
    transaction: DatabaseTransaction,
    _permit: OwnedSemaphorePermit,
}

// === impl Store ===

impl Store {
    /// Connects and brings the schema up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(MAX_CONNECTIONS)
            .connect_timeout(WAIT_FOR_DATABASE)
            .acquire_timeout(WAIT_FOR_DATABASE)
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(|sqlite| {
                sqlite
                    .journal_mode(SqliteJournalMode::Wal)
                    // A circuit that was answered with 201 is still there after a power cut.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(WAIT_FOR_DATABASE)
                    .foreign_keys(true)
            });
        let database = Database::connect(options).await?;
        let concurrent_writers = match database.get_database_backend() {
            DbBackend::Sqlite => 1,
            _ => MAX_CONNECTIONS as usize,
        };
        Migrator::up(&database, None).await?;
        Ok(Self { database, writers: Arc::new(Semaphore::new(concurrent_writers)) })
    }

    /// Who this database belongs to; a new database becomes a new installation.
    pub async fn installation(&self, now_ms: i64) -> Result<InstallationId, StoreError> {
        if let Some(row) = installation::Entity::find_by_id(1).one(&self.database).await? {
            return Ok(InstallationId(row.installation_id));
        }
        let id = InstallationId::random();
        let row = installation::ActiveModel {
            id: Set(1),
            installation_id: Set(id.0),
            leader_epoch: Set(0),
            created_at_ms: Set(now_ms),
        };
        match installation::Entity::insert(row).exec_without_returning(&self.database).await {
            Ok(_) => Ok(id),
            // Another coordinator set it up in the same moment.
            Err(error) => match installation::Entity::find_by_id(1).one(&self.database).await? {
                Some(row) => Ok(InstallationId(row.installation_id)),
                None => Err(error.into()),
            },
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.database.ping().await?)
    }

    async fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let acquired = tokio::time::timeout(WAIT_FOR_DATABASE, Arc::clone(&self.writers).acquire_owned()).await;
        let permit = acquired.map_err(|_| StoreError::Busy)?.map_err(|_| StoreError::Busy)?;
        let options = TransactionOptions {
            // Taking SQLite's write lock at once avoids the deadlock of two readers that both want to write.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = self.database.begin_with_options(options).await?;
        Ok(WriteTransaction { transaction, _permit: permit })
    }

    /// Runs `attempt` again when another transaction was faster; it then sees what that one did.
    async fn retrying<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut attempts = 1;
        loop {
            match attempt().await {
                Err(error) if error.is_lost_race() && attempts < MAX_ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }
}

// === impl WriteTransaction ===

impl WriteTransaction {
    fn connection(&self) -> &DatabaseTransaction {
        &self.transaction
    }

    async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}
