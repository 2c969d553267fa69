//! One routing rule: a way in, its targets, and the rules between.
//!
//! Invariant: a [`Circuit`] carries all that an edge needs to serve it and nothing else (no labels, no history).

mod protocol;
mod read;
mod traffic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::balance::{Affinity, LoadBalancing, Retries};
use crate::faults::Faults;
use crate::frontend::{Frontend, FrontendRequest};
use crate::health_check::HealthCheck;
use crate::ids::{AuthorityName, CircuitId, CircuitKey, Generation, OwnerId, ServiceName, UserId, Variant};
use crate::rate::{Bandwidth, RateLimit};
use crate::target::Target;

pub use protocol::{Backend, Protocol};
pub use read::NOT_SUPPORTED_FIELDS;
pub use traffic::{FieldEdits, Headers, ProxyProtocol, Timeouts, Traffic};

/// What kind of owner a circuit has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppMode {
    /// A session of one user.
    #[default]
    Interactive,
    /// A model service.
    Inference,
}

/// What a caller asked for, complete and valid. Two equal ones ask for the same circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitSpec {
    /// Session or endpoint.
    pub owner: OwnerId,
    /// Which service of the owner.
    pub service: ServiceName,
    /// Tells circuits of one service apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// What kind of owner.
    pub app_mode: AppMode,
    /// What the service speaks.
    pub protocol: Protocol,
    /// Which driver carries it.
    pub backend: Backend,
    /// The way in that was asked for.
    pub frontend: FrontendRequest,
    /// The replicas; none means `503` until there are some.
    pub targets: Vec<Target>,
    /// How requests are spread.
    pub load_balancing: LoadBalancing,
    /// Who may use it.
    pub access: Access,
    /// Rules over its traffic.
    #[serde(default, skip_serializing_if = "Traffic::is_default")]
    pub traffic: Traffic,
    /// The caller's own notes.
    pub labels: BTreeMap<String, String>,
}

impl CircuitSpec {
    /// The circuit's key.
    pub fn key(&self) -> CircuitKey {
        CircuitKey::new(&self.owner, &self.service, self.variant.as_ref())
    }

    /// Who may take a subdomain again while it rests: the user, or without one the owner itself.
    pub fn tenant(&self) -> Tenant {
        match &self.access.user_id {
            Some(user) => Tenant::User(user.clone()),
            None => Tenant::Owner(self.owner.clone()),
        }
    }
}

/// Who a released subdomain still belongs to while it rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// A user of the manager.
    User(UserId),
    /// A session or endpoint without a known user.
    Owner(OwnerId),
}

impl std::fmt::Display for Tenant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(formatter, "user:{user}"),
            Self::Owner(owner) => write!(formatter, "owner:{owner}"),
        }
    }
}

/// What may change while a circuit is open; `None` leaves a part as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CircuitPatch {
    /// New replicas.
    pub targets: Option<Vec<Target>>,
    /// New spreading.
    pub load_balancing: Option<LoadBalancing>,
    /// Whether clients stay with their targets from now on.
    pub affinity: Option<Affinity>,
    /// How often requests are tried from now on.
    pub retries: Option<Retries>,
    /// Another health check, or none.
    pub health_check: Option<Option<HealthCheck>>,
    /// Another limit of requests, or none.
    pub rate_limit: Option<Option<RateLimit>>,
    /// Another bandwidth, or none.
    pub bandwidth: Option<Option<Bandwidth>>,
    /// New access rules.
    pub access: Option<Access>,
    /// New time limits.
    pub timeouts: Option<Timeouts>,
    /// New edits of header fields.
    pub headers: Option<Headers>,
    /// Another way to tell a TCP target who the client is, or none.
    pub proxy_protocol: Option<Option<ProxyProtocol>>,
    /// New notes.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether everything that was made to open the circuit ends, though its rules may stay as they are.
    pub revokes: bool,
}

impl CircuitPatch {
    /// Changes nothing, and ends everything that was made to open the circuit.
    #[must_use]
    pub fn revoking() -> Self {
        Self { revokes: true, ..Self::default() }
    }

    /// `spec` with this change.
    ///
    /// # Errors
    /// Rules that the backend of the circuit does not honour.
    pub fn applied_to(self, spec: &CircuitSpec) -> Result<CircuitSpec, Faults> {
        let mut changed = spec.clone();
        if let Some(targets) = self.targets {
            changed.targets = targets;
        }
        if let Some(load_balancing) = self.load_balancing {
            changed.load_balancing = load_balancing;
        }
        if let Some(affinity) = self.affinity {
            changed.traffic.affinity = affinity;
        }
        if let Some(retries) = self.retries {
            changed.traffic.retries = retries;
        }
        if let Some(health_check) = self.health_check {
            changed.traffic.health_check = health_check;
        }
        if let Some(rate_limit) = self.rate_limit {
            changed.traffic.rate_limit = rate_limit;
        }
        if let Some(bandwidth) = self.bandwidth {
            changed.traffic.bandwidth = bandwidth;
        }
        if let Some(access) = self.access {
            changed.access = access;
        }
        if let Some(timeouts) = self.timeouts {
            changed.traffic.timeouts = timeouts;
        }
        if let Some(headers) = self.headers {
            changed.traffic.headers = headers;
        }
        if let Some(proxy_protocol) = self.proxy_protocol {
            changed.traffic.proxy_protocol = proxy_protocol;
        }
        if let Some(labels) = self.labels {
            changed.labels = labels;
        }
        let mut faults = Faults::default();
        changed.traffic.check(changed.backend, &mut faults);
        changed.access.check(changed.backend, &mut faults);
        faults.into_result(|| Some(changed))
    }
}

/// What an edge gets to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// This life of the circuit.
    pub id: CircuitId,
    /// Its unique name.
    pub key: CircuitKey,
    /// Whose workers serve it.
    pub authority: AuthorityName,
    /// The way in.
    pub frontend: Frontend,
    /// What the service speaks.
    pub protocol: Protocol,
    /// Which driver carries it.
    pub backend: Backend,
    /// The replicas.
    pub targets: Vec<Target>,
    /// How requests are spread.
    pub load_balancing: LoadBalancing,
    /// Who may use it.
    pub access: Access,
    /// Which generation wrote `access`: what was made to open the circuit before that opens it no more.
    #[serde(default)]
    pub access_generation: Generation,
    /// Rules over its traffic.
    #[serde(default, skip_serializing_if = "Traffic::is_default")]
    pub traffic: Traffic,
}

/// How a circuit is, as the coordinator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CircuitStatus {
    /// No live worker has applied it yet.
    Pending,
    /// Applied, and at least one target can be tried.
    Healthy,
    /// No target, or no live worker.
    Unhealthy,
}

impl CircuitStatus {
    /// The words on the wire.
    pub const WORDS: [(&'static str, Self); 3] =
        [("PENDING", Self::Pending), ("HEALTHY", Self::Healthy), ("UNHEALTHY", Self::Unhealthy)];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

/// A circuit together with the generation that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// How often the key has changed.
    pub generation: Generation,
    /// The circuit.
    pub circuit: Circuit,
}
