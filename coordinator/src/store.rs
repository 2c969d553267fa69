//! The truth: circuits, workers and resting slots in PostgreSQL or SQLite.
//!
//! Invariant: this folder is the only place with queries, and every change is one transaction. Rules about time and
//! slots come from outside ([`crate::slots`]); the store asks them inside of the transaction.

mod circuits;
pub mod database;
mod health;
mod installation;
mod limited;
mod rests;
mod slot;
mod status;
mod tombstones;
mod workers;

use std::sync::Arc;

use entities::orm::RowError;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqlErr, SqliteTransactionMode, TransactionOptions,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use circuits::{
    ChangeOutcome, CloseTarget, Closed, ListFilter, MoveOutcome, NewCircuit, OpenOutcome, SlotRefusal, StoredCircuit,
};
use database::WAIT_FOR_DATABASE;
pub use database::{DatabaseConfig, SchemaPolicy};
use limited::Limited;
pub use rests::{SlotCounts, UnconfirmedPort};
pub use tombstones::Tombstone;
pub use workers::{RegisterOutcome, StoredWorker};

/// How often a transaction that lost a race is tried again.
const MAX_ATTEMPTS: usize = 5;

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
    /// The database was set up by a later program.
    #[error("the database has the migration {0}, which this program does not know: run a newer one")]
    NewerSchema(String),
    /// The database lacks migrations.
    #[error("the database lacks {0} migrations: run `migrate up`")]
    OldSchema(usize),
    /// The database was busy for longer than a request waits.
    #[error("the database is busy")]
    Busy,
}

impl StoreError {
    /// Whether another transaction was faster, so that trying again sees what it did.
    fn is_lost_race(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) || database::is_given_up(error)
            }
            Self::Row(_) | Self::Encode(_) | Self::NewerSchema(_) | Self::OldSchema(_) | Self::Busy => false,
        }
    }
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    database: Limited<DatabaseConnection>,
    /// SQLite lets one connection write at a time and makes others poll for it; waiting here is fair and instant.
    writers: Arc<Semaphore>,
}

/// A transaction that may write.
struct WriteTransaction {
    transaction: Limited<DatabaseTransaction>,
    _permit: OwnedSemaphorePermit,
}

// === impl Store ===

impl Store {
    /// Connects; the schema is what this program knows afterwards.
    pub async fn open(config: &DatabaseConfig) -> Result<Self, StoreError> {
        let database = database::open(config).await?;
        let concurrent_writers = match database.get_database_backend() {
            DbBackend::Sqlite => 1,
            // The last connection is for whoever only reads.
            _ => (config.max_connections as usize).saturating_sub(1).max(1),
        };
        Ok(Self { database: Limited(database), writers: Arc::new(Semaphore::new(concurrent_writers)) })
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
        let transaction = self.database.begin(options).await?;
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
    fn connection(&self) -> &Limited<DatabaseTransaction> {
        &self.transaction
    }

    async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}
