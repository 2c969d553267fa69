//! What everything that serves clients shares: one value instead of many arguments.
//!
//! Invariant: nothing here changes after the start; what changes is inside.

use std::sync::Arc;

use crate::client::Peers;
use crate::config::ClientLimits;
use crate::freshness::Freshness;
use crate::memory::Memory;
use crate::record::Records;
use crate::table::Table;
use crate::tcp::relay::RelayMetrics;
use crate::tunnel::TunnelMetrics;

/// The services of one edge.
pub(crate) struct Shared {
    /// Where circuits are.
    pub(crate) table: Arc<Table>,
    /// Whether circuits may still be used.
    pub(crate) freshness: Arc<Freshness>,
    /// Whom the edge believes.
    pub(crate) peers: Peers,
    /// Whether there is memory for more.
    pub(crate) memory: Arc<Memory>,
    /// Who is told what has ended.
    pub(crate) records: Arc<Records>,
    /// What clients may take.
    pub(crate) limits: ClientLimits,
    /// What relays count.
    pub(crate) relays: Arc<RelayMetrics>,
    /// What tunnels count.
    pub(crate) tunnels: Arc<TunnelMetrics>,
}
