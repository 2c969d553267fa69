//! SeaORM entities, one file a table, and their conversions to the domain types.
//!
//! Invariant: a row that does not convert is an error that names the row; it never becomes a half-valid value.

pub mod authority;
pub mod bad_port;
pub mod circuit;
pub mod circuit_status;
pub mod installation;
pub mod resting_host;
pub mod resting_port;
pub mod target_health;
pub mod tombstone;
pub mod worker;

/// A row that this program cannot read, written by another version or by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the row {row:?} of table {table} does not read: {reason}")]
pub struct RowError {
    /// Which table.
    pub table: &'static str,
    /// Which row, by its key.
    pub row: String,
    /// What is wrong.
    pub reason: String,
}

impl RowError {
    fn new(table: &'static str, row: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self { table, row: row.into(), reason: reason.to_string() }
    }
}

/// A counter as databases keep it; both count far below 2^63.
pub fn to_column(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

/// A counter from a column; a negative one cannot have been written by us and counts as 0.
pub fn from_column(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}
