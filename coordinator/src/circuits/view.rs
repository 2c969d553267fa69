//! A circuit as the API shows it.
//!
//! Invariant: a view says only what was read from the store or answered by workers; it promises nothing.

use std::collections::BTreeMap;

use entities::authority::Authority;
use entities::balance::Strategy;
use entities::circuit::{AppMode, Backend, CircuitStatus, Protocol};
use entities::clock::from_unix_ms;
use entities::frontend::Frontend;
use entities::ids::Revision;
use entities::ids::WorkerId;
use entities::orm::{RowError, from_column};
use entities::target::Target;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::store::StoredCircuit;
use crate::targets::TargetHealth;

/// One circuit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CircuitView {
    /// This life of the circuit.
    pub id: Uuid,
    /// Its unique name, `<owner>:<service>[:<variant>]`.
    pub key: String,
    /// Set when the owner is a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Set when the owner is an inference endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<String>,
    /// Which service of the owner.
    pub service: String,
    /// Tells circuits of one service apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `interactive` or `inference`.
    #[schema(value_type = String)]
    pub app_mode: AppMode,
    /// What the service speaks.
    #[schema(value_type = String)]
    pub protocol: Protocol,
    /// Which driver carries it.
    #[schema(value_type = String)]
    pub backend: Backend,
    /// Whose workers serve it.
    pub authority: String,
    /// The way in.
    #[schema(value_type = Object)]
    pub frontend: Frontend,
    /// Where clients find it; absent if the authority does not take such frontends any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `PENDING`, `HEALTHY` or `UNHEALTHY`.
    #[schema(value_type = String)]
    pub status: CircuitStatus,
    /// How often the key has changed; also the `ETag`.
    pub generation: u64,
    /// How far the edges are with it; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedView>,
    /// The replicas.
    pub targets: Vec<TargetView>,
    /// How requests are spread.
    #[schema(value_type = Object)]
    pub load_balancing: entities::balance::LoadBalancing,
    /// Whether clients stay with their targets.
    #[schema(value_type = Object)]
    pub affinity: entities::balance::Affinity,
    /// How often a request is tried.
    #[schema(value_type = Object)]
    pub retries: entities::balance::Retries,
    /// How targets are probed; absent if only requests tell whether they work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub health_check: Option<entities::health_check::HealthCheck>,
    /// How many requests each edge takes; absent if all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub rate_limit: Option<entities::rate::RateLimit>,
    /// How many bytes each edge carries in each direction; absent if all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub bandwidth: Option<entities::rate::Bandwidth>,
    /// Who may use it.
    #[schema(value_type = Object)]
    pub access: entities::access::Access,
    /// Time limits that differ from the edge's.
    #[schema(value_type = Object)]
    pub timeouts: entities::circuit::Timeouts,
    /// Edits of header fields.
    #[schema(value_type = Object)]
    pub headers: entities::circuit::Headers,
    /// `v1` or `v2`: which PROXY protocol header TCP targets get; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub proxy_protocol: Option<entities::circuit::ProxyProtocol>,
    /// The caller's own notes.
    pub labels: BTreeMap<String, String>,
    /// When it was opened.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it changed last.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// What the caller should know and did not ask.
    pub warnings: Vec<WarningView>,
}

/// How far the edges are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AppliedView {
    /// The registry's revision that they must have; absent while the registry has not taken it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub revision: Option<Revision>,
    /// Workers that serve it.
    #[schema(value_type = Vec<String>)]
    pub workers: Vec<WorkerId>,
    /// Workers that should and do not yet.
    #[schema(value_type = Vec<String>)]
    pub pending: Vec<WorkerId>,
}

/// One replica.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TargetView {
    /// Where it is.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Its share of the traffic; with 0 it finishes what is open and gets nothing new.
    pub weight: u16,
    /// Whether it works, as far as live workers know: `null` while nobody has checked it and nothing has failed there.
    pub healthy: Option<bool>,
}

/// Something that the caller should know.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WarningView {
    /// For programs.
    pub code: String,
    /// For people.
    pub detail: String,
}

// === impl CircuitView ===

impl CircuitView {
    /// Shows a stored circuit.
    pub fn of(
        circuit: &StoredCircuit,
        authority: Option<&Authority>,
        applied: Option<AppliedView>,
    ) -> Result<Self, RowError> {
        let row = &circuit.row;
        let spec = row.circuit_spec()?;
        let frontend = row.frontend()?;
        let url = authority.and_then(|authority| authority.url(&frontend, spec.protocol));
        let owner = Some(spec.owner.to_string());
        let (session_id, endpoint_id) = match spec.app_mode {
            AppMode::Interactive => (owner, None),
            AppMode::Inference => (None, owner),
        };
        let mut warnings = Vec::new();
        if spec.access.public {
            warnings.push(WarningView {
                code: "public".to_owned(),
                detail: "anybody who can reach the edge may use this circuit".to_owned(),
            });
        }
        if !spec.access.public && matches!(frontend, Frontend::Port { .. }) && spec.backend != Backend::Tcp {
            warnings.push(WarningView {
                code: "shared_cookies".to_owned(),
                detail: "browsers share the cookies of applications between all ports of a host; a subdomain keeps them apart"
                    .to_owned(),
            });
        }
        let has_weights = spec.targets.iter().any(|target| target.weight > 1);
        if has_weights && spec.load_balancing.strategy == Strategy::RoundRobin {
            warnings.push(WarningView {
                code: "weights_ignored".to_owned(),
                detail: "round_robin gives every target the same share; weighted and least_connections honour weights"
                    .to_owned(),
            });
        }
        Ok(Self {
            id: row.id,
            key: row.key.clone(),
            session_id,
            endpoint_id,
            service: spec.service.to_string(),
            variant: spec.variant.map(String::from),
            app_mode: spec.app_mode,
            protocol: spec.protocol,
            backend: spec.backend,
            authority: row.authority.clone(),
            url,
            frontend,
            status: circuit.status,
            generation: from_column(row.generation),
            applied,
            targets: spec.targets.iter().map(|target| TargetView::of(target, &circuit.health)).collect(),
            load_balancing: spec.load_balancing,
            affinity: spec.traffic.affinity,
            retries: spec.traffic.retries,
            health_check: spec.traffic.health_check,
            rate_limit: spec.traffic.rate_limit,
            bandwidth: spec.traffic.bandwidth,
            access: spec.access,
            timeouts: spec.traffic.timeouts,
            headers: spec.traffic.headers,
            proxy_protocol: spec.traffic.proxy_protocol,
            labels: spec.labels,
            created_at: from_unix_ms(row.created_at_ms),
            updated_at: from_unix_ms(row.updated_at_ms),
            warnings,
        })
    }
}

// === impl TargetView ===

impl TargetView {
    fn of(target: &Target, health: &TargetHealth) -> Self {
        Self {
            host: target.host.as_str().to_owned(),
            port: target.port.number(),
            weight: target.weight,
            healthy: health.of(target),
        }
    }
}
