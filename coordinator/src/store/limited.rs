//! Statements that end.
//!
//! The driver waits for ever for a server that took a statement and hangs, and the server's own time limit does not
//! run then.
//!
//! Invariant: nothing in this folder talks to the database but through [`Limited`].

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    TransactionOptions, TransactionTrait,
};

use super::database::STATEMENT_TIMEOUT;

/// Longer than the server's own limit, whose error says more.
const LIMIT: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(1));

/// A connection, pool or transaction whose every call ends.
#[derive(Debug, Clone)]
pub(super) struct Limited<C>(pub(super) C);

async fn limited<T>(call: impl Future<Output = Result<T, DbErr>> + Send) -> Result<T, DbErr> {
    let silence = || DbErr::Custom(format!("no answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| Err(silence()))
}

#[async_trait::async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Limited<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        limited(self.0.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        limited(self.0.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        limited(self.0.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        limited(self.0.query_all_raw(statement)).await
    }

    fn support_returning(&self) -> bool {
        self.0.support_returning()
    }
}

// === impl Limited ===

impl Limited<DatabaseConnection> {
    pub(super) async fn begin(&self, options: TransactionOptions) -> Result<Limited<DatabaseTransaction>, DbErr> {
        limited(self.0.begin_with_options(options)).await.map(Limited)
    }

    pub(super) async fn ping(&self) -> Result<(), DbErr> {
        limited(self.0.ping()).await
    }
}

impl Limited<DatabaseTransaction> {
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        limited(self.0.commit()).await
    }
}
