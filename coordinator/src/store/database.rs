//! Opens the database: connections with limits, and a schema that this program knows.
//!
//! Invariant: a database whose schema this program does not know is not touched, and no text of an error shows the
//! password of its address.

use std::fmt;
use std::time::Duration;

use migrations::Migrator;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, RuntimeErr};
use sea_orm_migration::{MigrationStatus, MigratorTrait};

use super::StoreError;

/// How long a request waits for a connection or for SQLite's write lock.
pub(super) const WAIT_FOR_DATABASE: Duration = Duration::from_secs(5);

/// How long one statement may take: the longest deletes what rested, which takes milliseconds.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a transaction may wait for the lock of another.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection is replaced after this time, so that the pool follows a database that moved.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Where the store is, and how it may be used.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// `sqlite://…` or `postgres://…`; it may hold a password.
    pub url: String,
    /// Connections at a time. SQLite has one writer at a time; readers beside it do not wait.
    pub max_connections: u32,
    /// What to do about the schema.
    pub schema: SchemaPolicy,
}

/// What to do about the schema before the first query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaPolicy {
    /// Bring it up to date: the database is this process's own.
    Migrate,
    /// Refuse to run on an old one: whoever runs the cluster decides when it changes.
    Require,
}

/// One step of the schema's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaStep {
    /// Its name.
    pub name: String,
    /// Whether this database has it.
    pub is_applied: bool,
    /// Whether this program knows it.
    pub is_known: bool,
}

// === impl DatabaseConfig ===

impl DatabaseConfig {
    /// A database of this process alone.
    pub fn own(url: impl Into<String>) -> Self {
        Self { url: url.into(), max_connections: 8, schema: SchemaPolicy::Migrate }
    }

    /// A database that several processes share.
    pub fn shared(url: impl Into<String>, max_connections: u32) -> Self {
        Self { url: url.into(), max_connections, schema: SchemaPolicy::Require }
    }

    /// Whether the database can be away while this process is there.
    pub fn is_remote(&self) -> bool {
        !self.url.starts_with("sqlite:")
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DatabaseConfig")
            .field("max_connections", &self.max_connections)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// Connects and sees to the schema.
pub(super) async fn open(config: &DatabaseConfig) -> Result<DatabaseConnection, StoreError> {
    let database = connect(config).await?;
    let history = history(&database).await?;
    if let Some(unknown) = history.iter().find(|step| !step.is_known) {
        return Err(StoreError::NewerSchema(unknown.name.clone()));
    }
    let pending = history.iter().filter(|step| !step.is_applied).count();
    match config.schema {
        _ if pending == 0 => {}
        SchemaPolicy::Migrate => Migrator::up(&database, None).await?,
        SchemaPolicy::Require => return Err(StoreError::OldSchema(pending)),
    }
    Ok(database)
}

/// The steps of the schema, as the database has them.
///
/// # Errors
/// If the database does not answer.
pub async fn schema(config: &DatabaseConfig) -> Result<Vec<SchemaStep>, StoreError> {
    history(&connect(config).await?).await
}

/// Brings the schema up to date.
///
/// # Errors
/// If the database does not answer, or has a schema that this program does not know.
pub async fn migrate(config: &DatabaseConfig) -> Result<(), StoreError> {
    let config = DatabaseConfig { schema: SchemaPolicy::Migrate, ..config.clone() };
    open(&config).await.map(|_| ())
}

async fn connect(config: &DatabaseConfig) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(&config.url);
    options
        .max_connections(config.max_connections)
        .connect_timeout(WAIT_FOR_DATABASE)
        .acquire_timeout(WAIT_FOR_DATABASE)
        .max_lifetime(MAX_LIFETIME)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .journal_mode(SqliteJournalMode::Wal)
                // A circuit that was answered with 201 is still there after a power cut.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(WAIT_FOR_DATABASE)
                .foreign_keys(true)
        })
        .map_sqlx_postgres_opts(|postgres| {
            let milliseconds = |span: Duration| span.as_millis().to_string();
            postgres.application_name("appproxy-coordinator").options([
                ("statement_timeout", milliseconds(STATEMENT_TIMEOUT)),
                ("lock_timeout", milliseconds(LOCK_TIMEOUT)),
                ("idle_in_transaction_session_timeout", milliseconds(STATEMENT_TIMEOUT)),
            ])
        });
    Ok(Database::connect(options).await?)
}

async fn history(database: &DatabaseConnection) -> Result<Vec<SchemaStep>, StoreError> {
    Migrator::install(database).await?;
    let applied: Vec<String> =
        Migrator::get_migration_models(database).await?.into_iter().map(|model| model.version).collect();
    let known = Migrator::migrations();
    let step = |name: &str, is_known| SchemaStep {
        name: name.to_owned(),
        is_applied: applied.iter().any(|version| version == name),
        is_known,
    };
    let mut steps: Vec<SchemaStep> = known.iter().map(|migration| step(migration.name(), true)).collect();
    let is_unknown = |version: &&String| known.iter().all(|migration| migration.name() != version.as_str());
    steps.extend(applied.iter().filter(is_unknown).map(|version| step(version, false)));
    Ok(steps)
}

// === impl SchemaStep ===

impl SchemaStep {
    /// For people.
    pub fn word(&self) -> String {
        match (self.is_applied, self.is_known) {
            (_, false) => "applied, but unknown to this program".to_owned(),
            (true, true) => MigrationStatus::Applied.to_string().to_lowercase(),
            (false, true) => MigrationStatus::Pending.to_string().to_lowercase(),
        }
    }
}

/// Whether PostgreSQL gave this transaction up for another, so that it can be tried again: `serialization_failure`
/// and `deadlock_detected` (PostgreSQL manual, appendix A).
pub(super) fn is_given_up(error: &DbErr) -> bool {
    const GIVEN_UP: [&str; 2] = ["40001", "40P01"];
    let (DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))
    | DbErr::Conn(RuntimeErr::SqlxError(cause))) = error
    else {
        return false;
    };
    let code = cause.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| GIVEN_UP.contains(&code.as_ref()))
}
