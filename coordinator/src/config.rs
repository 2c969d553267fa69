//! What a coordinator needs to know before it starts.
//!
//! Invariant: every time span that the promises speak of is here, with its default from the design.

pub mod api;

use std::time::Duration;

use crate::keys::ApiKey;
use crate::signing::SigningKeys;
use crate::store::DatabaseConfig;
use api::ApiConfig;

/// How a coordinator runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the store is.
    pub database: DatabaseConfig,
    /// Who may call the API.
    pub keys: Vec<ApiKey>,
    /// What tickets and bearer tokens are signed with.
    pub signing_keys: SigningKeys,
    /// How the API is served.
    pub api: ApiConfig,
    /// The spans below.
    pub timing: Timing,
}

/// The time spans of the promises.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long opening, changing and closing wait for the edges before they answer `202`.
    pub apply_timeout: Duration,
    /// How long a released port rests.
    pub port_rest: Duration,
    /// How long a released subdomain rests for other users.
    pub host_rest: Duration,
    /// How long a port that a worker could not bind is passed over.
    pub bad_port_rest: Duration,
    /// How long an edge may serve what it could not confirm; a port that a lost worker may still serve rests that long.
    pub max_staleness: Duration,
    /// How long the registry keeps the envelope of a closed circuit.
    pub tombstone_life: Duration,
    /// How often store and registry are compared.
    pub reconcile_interval: Duration,
    /// How long a worker may give no sign of life before it is lost.
    pub worker_lost_after: Duration,
    /// How long publishing tries again on conflicts before it leaves the rest to reconcile.
    pub publish_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            apply_timeout: Duration::from_secs(2),
            port_rest: Duration::from_secs(60),
            host_rest: Duration::from_secs(24 * 3600),
            bad_port_rest: Duration::from_secs(600),
            max_staleness: Duration::from_secs(24 * 3600),
            tombstone_life: Duration::from_secs(600),
            reconcile_interval: Duration::from_secs(30),
            worker_lost_after: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(60),
        }
    }
}
