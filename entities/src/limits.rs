//! Every limit of the contracts, with its arithmetic.
//!
//! Invariant: what outside data can make grow has its bound here, and the parser that reads it enforces the bound.

/// Names of owners, services, variants, workers and authorities: one DNS label, because subdomains are made of them.
pub const MAX_NAME_BYTES: usize = 63;

/// Host names (RFC 1035 §2.3.4).
pub const MAX_HOST_BYTES: usize = 253;

/// Targets of one circuit: with an address of typical length (60 bytes as JSON) they fill half of
/// [`MAX_REGISTRY_VALUE_BYTES`]; longer host names meet that limit first.
pub const MAX_TARGETS: usize = 128;

/// How often one request may be tried, the first time included: with connections that time out after the usual 3 s it is
/// half a minute.
pub const MAX_ATTEMPTS: u8 = 10;

/// The path that a health check asks for.
pub const MAX_CHECK_PATH_BYTES: usize = 1_024;

/// Statuses that a health check expects.
pub const MAX_EXPECTED_STATUSES: usize = 32;

/// Targets whose health is reported in one heartbeat: 110 bytes each with an address, 350 with the longest name, which
/// stays below [`MAX_API_BODY_BYTES`].
pub const MAX_TARGET_REPORTS: usize = 300;

/// Labels of one circuit.
pub const MAX_LABELS: usize = 32;

/// A label's name.
pub const MAX_LABEL_NAME_BYTES: usize = 63;

/// A label's value.
pub const MAX_LABEL_VALUE_BYTES: usize = 255;

/// Header fields that a circuit sets and removes in one direction.
pub const MAX_FIELD_EDITS: usize = 32;

/// The name of a field that a circuit sets or removes.
pub const MAX_FIELD_NAME_BYTES: usize = 64;

/// The value of a field that a circuit sets; all of them together meet [`MAX_REGISTRY_VALUE_BYTES`] first.
pub const MAX_FIELD_VALUE_BYTES: usize = 1_024;

/// Ranges of clients that one circuit allows: 64 of 50 bytes are a fifth of [`MAX_REGISTRY_VALUE_BYTES`].
pub const MAX_ALLOWED_CLIENTS: usize = 64;

/// Origins besides its own whose pages may use a circuit.
pub const MAX_ALLOWED_ORIGINS: usize = 16;

/// Where browsers are sent that may not use a circuit yet.
pub const MAX_LOGIN_URL_BYTES: usize = 1_024;

/// The path that a ticket leads to, its query included.
pub const MAX_REDIRECT_BYTES: usize = 2_048;

/// A ticket, a bearer token or a cookie: the longest redirect grows by a third in base64, the rest has 400 bytes.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// How long a ticket opens its circuit: a browser comes with it at once.
pub const TICKET_LIFE_S: i64 = 60;

/// How long a cookie opens its circuit: a working day.
pub const COOKIE_LIFE_S: i64 = 12 * 3_600;

/// The longest that a bearer token may live.
pub const MAX_BEARER_LIFE_S: u64 = 365 * 24 * 3_600;

/// Keys that tokens may be signed with at a time: a new one, an old one, and room for mistakes.
pub const MAX_SIGNING_KEYS: usize = 16;

/// One value in the registry. A page of 200 keys stays under 3.2 MiB, below the 4 MiB that a gRPC client decodes.
pub const MAX_REGISTRY_VALUE_BYTES: usize = 16 * 1024;

/// A request body at the coordinator: the largest circuit (128 targets of 320 bytes, 32 labels of 330 and 64 fields of
/// 1,100) is 122 KiB.
pub const MAX_API_BODY_BYTES: u64 = 128 * 1024;

/// Faults reported for one request; a body of 128 KiB could name thousands.
pub const MAX_FAULTS: usize = 64;

/// Circuits in one page of a list.
pub const MAX_PAGE: u64 = 1_000;

/// Circuits in one page of a list when the caller does not say.
pub const DEFAULT_PAGE: u64 = 100;

/// Ports in the range of one authority: every port above the privileged ones.
pub const MAX_PORT_RANGE: u32 = 64_512;

/// Batches that a watch may be behind before it is ended; at 500 events a batch that is more than a full list costs.
pub const WATCH_QUEUE_BATCHES: usize = 1_024;

/// Events that the in-process registry keeps for watches that start in the past.
pub const HISTORY_EVENTS: usize = 16_384;

/// Refused circuits in one answer of `/v2/sync`: 200 bytes each, 200 KiB in all.
pub const MAX_REFUSALS: usize = 1_000;
