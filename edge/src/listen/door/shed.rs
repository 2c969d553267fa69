//! The second step of the door: turns connections away when there is no memory for them.
//!
//! Invariant: what speaks HTTP may still ask the worker API and is told that there is no room; a byte stream has no words for
//! that.

use std::sync::Arc;

use super::protocol::PortKind;
use crate::connection::{Connection, Notice};
use crate::memory::Memory;
use crate::refusal::Refused;
use crate::reply::Problem;

/// Sheds load near the memory ceiling.
pub(super) struct Shedding(pub(super) Arc<Memory>);

// === impl Shedding ===

impl Shedding {
    /// Lets a connection pass, perhaps with a mark that there is no memory for it.
    pub(super) fn pass(&self, connection: &Connection, kind: PortKind) -> Result<(), Refused> {
        if !self.0.is_shedding() {
            return Ok(());
        }
        if kind == PortKind::Bytes {
            return Err(Refused::new(Problem::Overloaded, "no memory for another byte stream"));
        }
        connection.shed();
        // One request, and then the end.
        connection.notify(Notice::EndWhenIdle);
        Ok(())
    }
}
