//! One edge process, as the coordinator sees it, and what the two say to each other.
//!
//! Invariant: these types are the wire between coordinators and edges of neighbouring versions, so fields are only
//! ever added and unknown ones are ignored.

use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::ids::{BootId, CircuitId, CircuitKey, Epoch, Generation, Port, Revision, WorkerId};
use crate::target::TargetHost;

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkerStatus {
    /// Answers and has applied what it was asked for; opening waits for it.
    Alive,
    /// Answers, but is behind on applying; opening does not wait for it.
    Lagging,
    /// Leaving; gets nothing new.
    Draining,
    /// No sign of life.
    Lost,
}

impl WorkerStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "ALIVE",
            Self::Lagging => "LAGGING",
            Self::Draining => "DRAINING",
            Self::Lost => "LOST",
        }
    }

    /// The status that a word on the wire names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Alive, Self::Lagging, Self::Draining, Self::Lost].into_iter().find(|status| status.as_str() == word)
    }
}

/// Body of `PUT /v2/workers/{id}`: an edge says who it is and what it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// This run of the process.
    pub boot_id: BootId,
    /// The program's version.
    pub version: String,
    /// Where the coordinator reaches the worker API, `http://10.0.0.7:6130` for example.
    pub api_url: String,
    /// What it serves.
    pub authority: Authority,
    /// Its share of the authority's traffic.
    #[serde(default = "default_weight")]
    pub weight: u16,
}

fn default_weight() -> u16 {
    1
}

/// Body of `POST /v2/workers/{id}/heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// This run of the process.
    pub boot_id: BootId,
    /// Circuits in its table.
    pub circuits: u64,
    /// Client connections open.
    pub connections: u64,
    /// Targets of which something else is known than before, at most [`MAX_TARGET_REPORTS`]. After a registration the edge
    /// reports everything that it knows once more.
    ///
    /// [`MAX_TARGET_REPORTS`]: crate::limits::MAX_TARGET_REPORTS
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetReport>,
}

/// What an edge knows about one target of one circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Which life of which circuit.
    pub circuit_id: CircuitId,
    /// Where the target is.
    pub host: TargetHost,
    /// Where it listens.
    pub port: Port,
    /// Whether it works; `None` if nothing is known any more.
    pub healthy: Option<bool>,
}

/// Answer of `GET /v2/sync`: how far an edge is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReport {
    /// Which worker answers.
    pub worker_id: WorkerId,
    /// Which run of it.
    pub boot_id: BootId,
    /// The registry's life that `applied` counts in; `None` before the first complete list.
    pub epoch: Option<Epoch>,
    /// Everything up to this revision is in the table and its sockets listen.
    pub applied: Revision,
    /// Circuits that are known and cannot be served here.
    #[serde(default)]
    pub refused: Vec<Refusal>,
}

impl SyncReport {
    /// Whether everything up to `revision` of `epoch` is applied.
    pub fn has_applied(&self, epoch: Epoch, revision: Revision) -> bool {
        self.epoch == Some(epoch) && self.applied >= revision
    }
}

/// One circuit that an edge cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which circuit.
    pub key: CircuitKey,
    /// Which generation of it.
    pub generation: Generation,
    /// Why.
    pub code: RefusalCode,
}

/// Why an edge cannot serve a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Something else holds the port.
    PortInUse,
    /// The operating system does not let the edge bind the port.
    PortNotAllowed,
    /// The port would not bind for another reason; the edge's log says which.
    PortFailed,
    /// The edge has no file descriptors left.
    OutOfDescriptors,
    /// Another circuit of the table has the same host or port.
    SlotTaken,
    /// A reason that a newer edge knows.
    #[serde(other)]
    Other,
}
