//! What callers send, as the document describes it.
//!
//! Invariant: these types are never filled; `entities` reads the bodies, and a test sends each example.
#![expect(dead_code, reason = "documentation only")]

use std::collections::BTreeMap;

use utoipa::ToSchema;
use uuid::Uuid;

/// What to open. `service`, `targets` and one of `session_id` and `endpoint_id` are needed.
#[derive(ToSchema)]
#[schema(example = json!({
    "session_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "service": "jupyter",
    "variant": "gpu",
    "app_mode": "interactive",
    "protocol": "http",
    "backend": "auto",
    "frontend": {"mode": "subdomain", "subdomain": "alice-lab"},
    "targets": [{"host": "10.0.0.5", "port": 8888, "weight": 1}],
    "load_balancing": {"strategy": "weighted"},
    "affinity": {"cookie": true},
    "retries": {"idempotent": true, "attempts": 3},
    "health_check": {"type": "http", "path": "/api", "interval_s": 5, "timeout_s": 2, "retries": 3,
                     "expected_status": [200], "grace_s": 60},
    "access": {"public": false, "user_id": "alice", "allowed_clients": ["10.0.0.0/8"],
               "allowed_origins": ["https://lab.example.org"], "login_url": "https://manager.example.org/open"},
    "rate_limit": {"requests_per_s": 5, "burst": 10, "per": "client"},
    "bandwidth": {"bytes_per_s": 10_000_000},
    "timeouts": {"connect_ms": 3000, "first_byte_ms": 60000, "idle_s": 0},
    "headers": {"request": {"set": {"x-team": "atlas"}, "remove": ["dnt"]}},
    "proxy_protocol": "off",
    "labels": {"project": "atlas"}
}))]
pub(crate) struct OpenCircuit {
    /// Whose it is: a session.
    session_id: Option<String>,
    /// Whose it is: an inference endpoint.
    endpoint_id: Option<String>,
    /// Which service of the owner.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    service: String,
    /// Tells circuits of one service apart.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    variant: Option<String>,
    /// `interactive` (default) or `inference`.
    app_mode: Option<String>,
    /// `http` (default), `preopen`, `h2`, `grpc`, `tcp`, `vnc`, `rdp` or `ssh`.
    protocol: Option<String>,
    /// `auto` (default: what the protocol needs), `http`, `h2` or `tcp`.
    backend: Option<String>,
    /// The way in. By default a generated subdomain, or a port for byte streams and gRPC, which need one.
    frontend: Option<FrontendBody>,
    /// The replicas; none means that clients are answered with `503` until there are some.
    targets: Vec<TargetBody>,
    /// How requests are spread.
    load_balancing: Option<LoadBalancingBody>,
    /// Whether clients stay with their targets; HTTP only.
    affinity: Option<AffinityBody>,
    /// How often a request is tried.
    retries: Option<RetriesBody>,
    /// How targets are probed. Without it a target is judged only by what requests meet.
    health_check: Option<HealthCheckBody>,
    /// How many requests are taken; over it `429` with `Retry-After`, and new byte streams are reset. Without it, all.
    rate_limit: Option<RateLimitBody>,
    /// How many bytes are carried. Without it, all.
    bandwidth: Option<BandwidthBody>,
    /// Who may use it.
    access: Option<AccessBody>,
    /// Time limits that differ from the edge's.
    timeouts: Option<TimeoutsBody>,
    /// Header fields to set and to remove; HTTP only.
    headers: Option<HeadersBody>,
    /// `off` (default), `v1` or `v2`: the PROXY protocol header that a target gets; backend `tcp` only.
    proxy_protocol: Option<String>,
    /// The caller's own notes; at most 32.
    labels: Option<BTreeMap<String, String>>,
}

/// What to change; each field that is given replaces the old one whole.
#[derive(ToSchema)]
#[schema(example = json!({
    "targets": [{"host": "10.0.0.6", "port": 8888}],
    "load_balancing": {"strategy": "least_connections"},
    "affinity": {"cookie": false},
    "retries": {"attempts": 2},
    "health_check": {"type": "none"},
    "rate_limit": {"per": "none"},
    "bandwidth": {"bytes_per_s": 0},
    "access": {"public": true},
    "timeouts": {"first_byte_ms": 0},
    "headers": {"response": {"set": {"x-frame-options": "SAMEORIGIN"}}},
    "proxy_protocol": "off",
    "labels": {}
}))]
pub(crate) struct ChangeCircuit {
    /// The replicas.
    targets: Option<Vec<TargetBody>>,
    /// How requests are spread.
    load_balancing: Option<LoadBalancingBody>,
    /// Whether clients stay with their targets; HTTP only.
    affinity: Option<AffinityBody>,
    /// How often a request is tried.
    retries: Option<RetriesBody>,
    /// How targets are probed. Without it a target is judged only by what requests meet.
    health_check: Option<HealthCheckBody>,
    /// How many requests are taken; over it `429` with `Retry-After`, and new byte streams are reset. Without it, all.
    rate_limit: Option<RateLimitBody>,
    /// How many bytes are carried. Without it, all.
    bandwidth: Option<BandwidthBody>,
    /// Who may use it.
    access: Option<AccessBody>,
    /// Time limits that differ from the edge's.
    timeouts: Option<TimeoutsBody>,
    /// Header fields to set and to remove; HTTP only.
    headers: Option<HeadersBody>,
    /// `off` (default), `v1` or `v2`: the PROXY protocol header that a target gets; backend `tcp` only.
    proxy_protocol: Option<String>,
    /// The caller's own notes; at most 32.
    labels: Option<BTreeMap<String, String>>,
}

/// A way in.
#[derive(ToSchema)]
struct FrontendBody {
    /// `port` or `subdomain`.
    mode: String,
    /// This port and no other; only with mode `port`.
    #[schema(minimum = 1)]
    port: Option<u16>,
    /// This name and no other; only with mode `subdomain`.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    subdomain: Option<String>,
}

/// One replica.
#[derive(ToSchema)]
struct TargetBody {
    /// An IP address or a DNS name.
    host: String,
    /// Where it listens.
    #[schema(minimum = 1)]
    port: u16,
    /// Its share of the traffic (default 1) for `weighted` and `least_connections`. With 0 it finishes what is open and gets
    /// nothing new, whatever the strategy.
    weight: Option<u16>,
}

/// How requests are spread.
#[derive(ToSchema)]
struct LoadBalancingBody {
    /// `round_robin` (default), `weighted` (smooth) or `least_connections` (open requests, streams and tunnels for each
    /// weight).
    strategy: Option<String>,
}

/// Whether a client stays with the target that served it first.
#[derive(ToSchema)]
struct AffinityBody {
    /// A cookie of the edge names the target. It is set with the first answer that is not an upgrade, lives as long as the
    /// browser, and never reaches a target.
    cookie: Option<bool>,
}

/// How often a request is tried. While nothing was sent, the next target is always tried.
#[derive(ToSchema)]
struct RetriesBody {
    /// Whether an idempotent request (RFC 9110 §9.2.2) that was sent, and whose answer has not begun, may be sent to another
    /// target: at most a fifth of a circuit's requests. Content beyond 64 KiB is not sent again.
    idempotent: Option<bool>,
    /// How often one request may be tried, the first time included; 3 by default.
    #[schema(minimum = 1, maximum = 10)]
    attempts: Option<u8>,
}

/// How targets are probed.
#[derive(ToSchema)]
struct HealthCheckBody {
    /// `tcp` (takes a connection), `http` (answers `GET` with an expected status) or `none`.
    #[schema(rename = "type")]
    r#type: String,
    /// What HTTP probes ask for; `/` by default.
    path: Option<String>,
    /// The statuses that count as success; by default every 2xx and 3xx.
    expected_status: Option<Vec<u16>>,
    /// From one probe to the next; 5 by default.
    #[schema(minimum = 1, maximum = 3_600)]
    interval_s: Option<u16>,
    /// How long a probe may take; 2 by default, and not longer than the interval.
    #[schema(minimum = 1, maximum = 60)]
    timeout_s: Option<u16>,
    /// How many failures in a row make a target be down; 3 by default. One success makes it be up.
    #[schema(minimum = 1, maximum = 100)]
    retries: Option<u8>,
    /// How long failures do not count against a target that has never worked; 0 by default.
    #[schema(maximum = 3_600)]
    grace_s: Option<u16>,
}

/// How many requests, or new connections of a byte stream, are taken. Each edge of the authority counts for itself.
#[derive(ToSchema)]
struct RateLimitBody {
    /// How many in the long run, in steps of 0.001; needed unless `per` is `none`.
    #[schema(minimum = 0.001, maximum = 1_000_000)]
    requests_per_s: Option<f64>,
    /// How many at once after a pause; as many as in a second by default.
    #[schema(minimum = 1, maximum = 1_000_000)]
    burst: Option<u32>,
    /// Who shares the rate: each `client` (default; an IPv6 network of 64 bits is one) has its own, or the whole `circuit`. With
    /// `none` there is no limit.
    per: Option<String>,
}

/// How many bytes are carried: byte streams, upgraded connections, and contents of HTTP. Each edge of the authority counts for
/// itself.
#[derive(ToSchema)]
struct BandwidthBody {
    /// How many in each direction, over all connections of the circuit: at least 65,536, or 0 for no limit.
    #[schema(maximum = 1_000_000_000_000_u64)]
    bytes_per_s: u64,
}

/// Who may use a circuit.
#[derive(ToSchema)]
struct AccessBody {
    /// Anybody who can reach the edge may use it, from the addresses in `allowed_clients`.
    public: Option<bool>,
    /// Whose it is. A released subdomain rests for everybody else.
    user_id: Option<String>,
    /// If there are any, clients must be in one of these ranges, whatever they show: `10.0.0.5`, `10.0.0.0/8` or
    /// `2001:db8::/32` for example. A private byte stream needs one.
    #[schema(max_items = 64)]
    allowed_clients: Option<Vec<String>>,
    /// Pages of these origins may use the circuit with the cookie of its user, besides its own: `https://lab.example.org`
    /// for example.
    #[schema(max_items = 16)]
    allowed_origins: Option<Vec<String>>,
    /// Whether preflights of the circuit's own page and of `allowed_origins` pass without a credential, which browsers do
    /// not send with them. Default: no.
    allow_preflight: Option<bool>,
    /// Whether the target gets the bearer token that opened the circuit. Default: no.
    forward_token: Option<bool>,
    /// Where browsers are sent that bring nothing that opens the circuit, with `circuit` (the key) and `redirect` (the path
    /// that was asked for) added to the query.
    #[schema(max_length = 1024)]
    login_url: Option<String>,
}

/// What a ticket is for.
#[derive(ToSchema)]
#[schema(example = json!({"user": "alice", "redirect": "/lab/tree"}))]
pub(crate) struct AskForTicket {
    /// Who will use it. If the circuit belongs to a user it must be that one.
    user: Option<String>,
    /// Where it leads: a path of the circuit's own host; `/` by default.
    #[schema(max_length = 2048)]
    redirect: Option<String>,
}

/// What a token is for.
#[derive(ToSchema)]
#[schema(example = json!({"user": "alice", "expires_in_s": 3600}))]
pub(crate) struct AskForToken {
    /// Who will use it. If the circuit belongs to a user it must be that one.
    user: Option<String>,
    /// How long it works; an hour by default.
    #[schema(minimum = 1, maximum = 31_536_000)]
    expires_in_s: Option<u64>,
}

/// Time limits of a circuit; what is absent is as the edge is configured.
#[derive(ToSchema)]
struct TimeoutsBody {
    /// How long connecting to one target may take.
    #[schema(minimum = 1, maximum = 3_600_000)]
    connect_ms: Option<u32>,
    /// How long a target may take to begin its answer; 0 is for ever. Towards HTTP/2 targets, whose default is for
    /// ever, it limits every pause of an answer.
    #[schema(maximum = 3_600_000)]
    first_byte_ms: Option<u32>,
    /// How long a byte stream or an upgraded connection may carry nothing in either direction; 0 is for ever.
    #[schema(maximum = 604_800)]
    idle_s: Option<u32>,
    /// How long open connections go on after the circuit was closed or their target was taken away.
    #[schema(maximum = 86_400)]
    drain_s: Option<u32>,
}

/// Edits of both heads.
#[derive(ToSchema)]
struct HeadersBody {
    /// On the way to the target.
    request: Option<FieldEditsBody>,
    /// On the way to the client.
    response: Option<FieldEditsBody>,
}

/// Edits of one head, at most 32: first what is removed, then what is set. Fields that frame a message or that are the
/// proxy's own are refused.
#[derive(ToSchema)]
struct FieldEditsBody {
    /// Fields that get this value in place of whatever they had.
    set: Option<BTreeMap<String, String>>,
    /// Fields that go.
    remove: Option<Vec<String>>,
}

/// Who an edge is and what it serves.
#[derive(ToSchema)]
#[schema(example = json!({
    "boot_id": "00000000-0000-4000-8000-000000000001",
    "version": "0.1.0",
    "api_url": "http://10.0.0.7:6130",
    "authority": {
        "name": "main",
        "subdomains": {"domain": "apps.example.org", "public_scheme": "https", "public_port": 443},
        "ports": {"host": "edge.example.org", "ports": "30000-30999", "public_scheme": "http"}
    },
    "weight": 1
}))]
pub(crate) struct RegisterWorker {
    /// This run of the process.
    boot_id: Uuid,
    /// The program's version.
    version: String,
    /// Where the coordinator reaches the worker.
    api_url: String,
    /// What it serves; all workers of an authority say the same.
    authority: AuthorityBody,
    /// Its share of the authority's traffic.
    weight: Option<u16>,
}

/// The address that clients use.
#[derive(ToSchema)]
struct AuthorityBody {
    /// Its name.
    name: String,
    /// Set if it takes subdomain circuits.
    subdomains: Option<SubdomainsBody>,
    /// Set if it takes port circuits.
    ports: Option<PortsBody>,
}

/// Names under a wildcard domain.
#[derive(ToSchema)]
struct SubdomainsBody {
    /// The domain without the wildcard.
    domain: String,
    /// `http` or `https`.
    public_scheme: String,
    /// The port that clients use.
    #[schema(minimum = 1)]
    public_port: u16,
}

/// Ports of a host.
#[derive(ToSchema)]
struct PortsBody {
    /// The host that clients use.
    host: String,
    /// `FIRST-LAST`.
    ports: String,
    /// `http` or `https`.
    public_scheme: String,
}

/// A sign of life.
#[derive(ToSchema)]
#[schema(example = json!({
    "boot_id": "00000000-0000-4000-8000-000000000001",
    "circuits": 12,
    "connections": 340,
    "targets": [
        {"circuit_id": "00000000-0000-4000-8000-000000000002", "host": "10.0.0.5", "port": 8888, "healthy": false}
    ]
}))]
pub(crate) struct WorkerHeartbeat {
    /// This run of the process.
    boot_id: Uuid,
    /// Circuits in its table.
    circuits: u64,
    /// Client connections open.
    connections: u64,
    /// Targets of which something else is known than before; at most 300.
    targets: Option<Vec<TargetReportBody>>,
}

/// What a worker knows about one target of one circuit.
#[derive(ToSchema)]
struct TargetReportBody {
    /// Which life of which circuit.
    circuit_id: Uuid,
    /// Where the target is.
    host: String,
    /// Where it listens.
    #[schema(minimum = 1)]
    port: u16,
    /// Whether it works; `null` if nothing is known any more.
    healthy: Option<bool>,
}
