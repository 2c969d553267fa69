//! Reads what callers send to open and to change a circuit.
//!
//! Invariant: a field whose rule no edge enforces yet is refused, never ignored: a caller who reads `201` has what
//! they asked for. [`NOT_SUPPORTED_FIELDS`] lists them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{AppMode, Backend, CircuitPatch, CircuitSpec, Headers, Protocol, ProxyProtocol, Timeouts, Traffic};
use crate::access::Access;
use crate::balance::{Affinity, LoadBalancing, Retries};
use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;
use crate::frontend::FrontendRequest;
use crate::health_check::HealthCheck;
use crate::ids::{OwnerId, ServiceName, Variant};
use crate::limits::{MAX_LABEL_NAME_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS};
use crate::rate::{Bandwidth, RateLimit};
use crate::target::Target;

/// Top-level fields that are refused until the rule behind them is enforced.
pub const NOT_SUPPORTED_FIELDS: [&str; 2] = ["idle_timeout_s", "redeploy"];

const NOTHING_TO_CHANGE: &str = "nothing to change: give targets, load_balancing, affinity, retries, health_check, rate_limit, bandwidth, access, \
     timeouts, headers, proxy_protocol or labels";

/// Fields that say which circuit it is or where it is; they stay as they were opened.
const IMMUTABLE_FIELDS: [&str; 8] =
    ["session_id", "endpoint_id", "service", "variant", "app_mode", "protocol", "backend", "frontend"];

impl CircuitSpec {
    /// Reads the body of `POST /v2/circuits`.
    pub fn read(body: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let Some(mut fields) = Fields::of(body, "", &mut faults) else { return Err(faults) };

        let service = fields.parse::<ServiceName>("service", &mut faults);
        if !is_given(body, "service") {
            fields.missing("service", &mut faults);
        }
        let app_mode = read_app_mode(&mut fields, &mut faults);
        let owner = read_owner(&mut fields, body, app_mode, &mut faults);
        let variant = fields.parse::<Variant>("variant", &mut faults);
        let protocol = read_protocol(&mut fields, &mut faults);
        let backend = read_backend(&mut fields, protocol, &mut faults);
        let frontend = read_frontend(&mut fields, protocol, backend, &mut faults);
        if !is_given(body, "targets") {
            fields.missing("targets", &mut faults);
        }
        let parts = read_changeable(&mut fields, &mut faults);
        fields.finish(&mut faults);
        let traffic = Traffic {
            timeouts: parts.timeouts.unwrap_or_default(),
            headers: parts.headers.unwrap_or_default(),
            proxy_protocol: parts.proxy_protocol.flatten(),
            affinity: parts.affinity.unwrap_or_default(),
            retries: parts.retries.unwrap_or_default(),
            health_check: parts.health_check.flatten(),
            rate_limit: parts.rate_limit.flatten(),
            bandwidth: parts.bandwidth.flatten(),
        };
        traffic.check(backend, &mut faults);
        let access = parts.access.unwrap_or_default();
        access.check(backend, &mut faults);

        faults.into_result(|| {
            Some(Self {
                owner: owner?,
                service: service?,
                variant,
                app_mode: app_mode.unwrap_or_default(),
                protocol,
                backend,
                frontend: frontend?,
                targets: parts.targets.unwrap_or_default(),
                load_balancing: parts.load_balancing.unwrap_or_default(),
                access,
                traffic,
                labels: parts.labels.unwrap_or_default(),
            })
        })
    }
}

impl CircuitPatch {
    /// Reads the body of `PATCH /v2/circuits/{key}`: each field that is given replaces the old one whole.
    pub fn read(body: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let Some(mut fields) = Fields::of(body, "", &mut faults) else { return Err(faults) };
        for name in IMMUTABLE_FIELDS {
            if fields.take(name).is_some() {
                let detail = format!("{name} cannot be changed; close the circuit and open another");
                faults.push(fields.pointer_to(name), FaultCode::Immutable, detail);
            }
        }
        let patch = read_changeable(&mut fields, &mut faults);
        fields.finish(&mut faults);
        if faults.is_empty() && patch == Self::default() {
            faults.push("", FaultCode::Required, NOTHING_TO_CHANGE);
        }
        faults.into_result(|| Some(patch))
    }
}

fn is_given(body: &Value, name: &str) -> bool {
    body.get(name).is_some_and(|value| !value.is_null())
}

/// The parts that opening and changing read alike.
fn read_changeable(fields: &mut Fields<'_>, faults: &mut Faults) -> CircuitPatch {
    let targets = fields.list("targets", faults).map(|list| Target::read_list(list, "/targets", faults));
    let load_balancing =
        fields.take("load_balancing").and_then(|value| LoadBalancing::read(value, "/load_balancing", faults));
    let affinity = fields.take("affinity").and_then(|value| Affinity::read(value, "/affinity", faults));
    let retries = fields.take("retries").and_then(|value| Retries::read(value, "/retries", faults));
    let health_check = fields.take("health_check").and_then(|value| HealthCheck::read(value, "/health_check", faults));
    let rate_limit = fields.take("rate_limit").and_then(|value| RateLimit::read(value, "/rate_limit", faults));
    let bandwidth = fields.take("bandwidth").and_then(|value| Bandwidth::read(value, "/bandwidth", faults));
    let access = fields.take("access").and_then(|value| Access::read(value, "/access", faults));
    let timeouts = fields.take("timeouts").and_then(|value| Timeouts::read(value, "/timeouts", faults));
    let headers = fields.take("headers").and_then(|value| Headers::read(value, "/headers", faults));
    let words = [("off", None), ("v1", Some(ProxyProtocol::V1)), ("v2", Some(ProxyProtocol::V2))];
    let proxy_protocol = fields.choice("proxy_protocol", &words, faults);
    let labels = fields.take("labels").map(|value| read_labels(value, faults));
    for name in NOT_SUPPORTED_FIELDS {
        fields.not_supported(name, faults);
    }
    CircuitPatch {
        targets,
        load_balancing,
        affinity,
        retries,
        health_check,
        rate_limit,
        bandwidth,
        access,
        timeouts,
        headers,
        proxy_protocol,
        labels,
        revokes: false,
    }
}

fn read_app_mode(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<AppMode> {
    fields.choice("app_mode", &[("interactive", AppMode::Interactive), ("inference", AppMode::Inference)], faults)
}

fn read_owner(
    fields: &mut Fields<'_>,
    body: &Value,
    app_mode: Option<AppMode>,
    faults: &mut Faults,
) -> Option<OwnerId> {
    let parse = |text: &str| OwnerId::parse_canonical(text).map_err(|error| error.to_string());
    let session = fields.parse_with("session_id", faults, parse);
    let endpoint = fields.parse_with("endpoint_id", faults, parse);
    let has_session = is_given(body, "session_id");
    let has_endpoint = is_given(body, "endpoint_id");
    if has_session && has_endpoint {
        faults.push("/endpoint_id", FaultCode::Contradiction, "give session_id or endpoint_id, not both");
        return None;
    }
    match app_mode {
        Some(AppMode::Inference) if !has_endpoint => {
            faults.push("/endpoint_id", FaultCode::Required, "inference needs endpoint_id");
        }
        Some(AppMode::Interactive) if has_endpoint => {
            faults.push("/endpoint_id", FaultCode::Contradiction, "an interactive circuit belongs to a session_id");
        }
        _ if !has_session && !has_endpoint => {
            faults.push("/session_id", FaultCode::Required, "session_id (or endpoint_id) is required");
        }
        _ => {}
    }
    session.or(endpoint)
}

fn read_protocol(fields: &mut Fields<'_>, faults: &mut Faults) -> Protocol {
    fields.choice("protocol", &Protocol::WORDS, faults).unwrap_or_default()
}

fn read_backend(fields: &mut Fields<'_>, protocol: Protocol, faults: &mut Faults) -> Backend {
    let automatic = protocol.automatic_backend();
    let words = [
        ("auto", Some(automatic)),
        ("http", Some(Backend::Http)),
        ("h2", Some(Backend::H2)),
        ("tcp", Some(Backend::Tcp)),
        ("traefik", None),
    ];
    let backend = fields.choice("backend", &words, faults);
    if backend == Some(None) {
        let detail = "only auto, http, h2 and tcp are supported yet";
        faults.push(fields.pointer_to("backend"), FaultCode::NotSupported, detail);
    }
    let backend = backend.flatten().unwrap_or(automatic);
    if !protocol.allows(backend) {
        let detail = format!("no such backend carries {}", protocol.as_str());
        faults.push(fields.pointer_to("backend"), FaultCode::Contradiction, detail);
    }
    backend
}

/// A byte stream names no host, so it needs a port of its own; so does gRPC, because clients speak HTTP/2 without TLS
/// to such ports only.
fn read_frontend(
    fields: &mut Fields<'_>,
    protocol: Protocol,
    backend: Backend,
    faults: &mut Faults,
) -> Option<FrontendRequest> {
    let needs_port = backend == Backend::Tcp || protocol == Protocol::Grpc;
    let Some(value) = fields.take("frontend") else {
        let port = FrontendRequest::Port { port: None };
        return Some(if needs_port { port } else { FrontendRequest::default() });
    };
    let frontend = FrontendRequest::read(value, "/frontend", faults)?;
    if needs_port && matches!(frontend, FrontendRequest::Subdomain { .. }) {
        if backend == Backend::Tcp {
            let detail = "a byte stream names no host: it needs a port of its own";
            faults.push("/frontend/mode", FaultCode::Contradiction, detail);
        } else {
            faults.push("/frontend/mode", FaultCode::NotSupported, "gRPC is supported on ports only yet");
        }
    }
    Some(frontend)
}

fn read_labels(value: &Value, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(object) = value.as_object() else {
        faults.push("/labels", FaultCode::WrongType, "must be an object");
        return labels;
    };
    if object.len() > MAX_LABELS {
        faults.push("/labels", FaultCode::TooLarge, format!("at most {MAX_LABELS} labels"));
        return labels;
    }
    for (name, value) in object {
        let pointer = format!("/labels/{}", name.replace('~', "~0").replace('/', "~1"));
        if name.is_empty() || name.len() > MAX_LABEL_NAME_BYTES {
            let detail = format!("a label's name has 1 to {MAX_LABEL_NAME_BYTES} bytes");
            faults.push("/labels", FaultCode::Invalid, detail);
            continue;
        }
        match value.as_str() {
            Some(text) if text.len() <= MAX_LABEL_VALUE_BYTES => {
                labels.insert(name.clone(), text.to_owned());
            }
            Some(_) => {
                faults.push(pointer, FaultCode::TooLarge, format!("at most {MAX_LABEL_VALUE_BYTES} bytes"));
            }
            None => faults.push(pointer, FaultCode::WrongType, "must be a string"),
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::balance::Strategy;

    fn pointers(faults: &Faults) -> Vec<(&str, FaultCode)> {
        faults.as_slice().iter().map(|fault| (fault.pointer.as_str(), fault.code)).collect()
    }

    #[test]
    fn three_fields_are_enough() {
        let spec = CircuitSpec::read(&json!({"session_id": "s1", "service": "jupyter", "targets": []})).expect("valid");
        assert_eq!(spec.key().as_str(), "s1:jupyter");
        assert_eq!(spec.frontend, FrontendRequest::Subdomain { subdomain: None });
        assert_eq!(spec.backend, Backend::Http);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let body = json!({
            "session_id": "s 1", "service": "Jupyter", "protocol": "gopher", "frontend": {"mode": "port", "subdomain": "x"},
            "targets": [{"host": "10.0.0.1", "port": 0}, {"port": 80}, {"host": "10.0.0.1", "port": 80, "extra": 1}],
            "labels": {"a": 1}, "surprise": true,
        });
        let faults = CircuitSpec::read(&body).expect_err("faulty");
        let found = pointers(&faults);
        for wanted in [
            ("/service", FaultCode::Invalid),
            ("/session_id", FaultCode::Invalid),
            ("/protocol", FaultCode::Invalid),
            ("/frontend/subdomain", FaultCode::Contradiction),
            ("/targets/0/port", FaultCode::Invalid),
            ("/targets/1/host", FaultCode::Required),
            ("/targets/2/extra", FaultCode::UnknownField),
            ("/labels/a", FaultCode::WrongType),
            ("/surprise", FaultCode::UnknownField),
        ] {
            assert!(found.contains(&wanted), "{wanted:?} is missing in {found:?}");
        }
    }

    /// The list that the issues shorten: whoever builds one of these rules takes its row out.
    #[test]
    fn what_is_not_enforced_yet_is_refused() {
        let refused = [
            ("/idle_timeout_s", json!({"idle_timeout_s": 3600})),
            ("/redeploy", json!({"redeploy": "auto"})),
            ("/backend", json!({"backend": "traefik"})),
            ("/frontend/mode", json!({"protocol": "grpc", "frontend": {"mode": "subdomain"}})),
        ];
        for (pointer, extra) in refused {
            let mut body = json!({"session_id": "s1", "service": "jupyter", "targets": []});
            for (name, value) in extra.as_object().expect("an object") {
                body[name] = value.clone();
            }
            let faults = CircuitSpec::read(&body).expect_err(pointer);
            assert_eq!(pointers(&faults), [(pointer, FaultCode::NotSupported)], "{extra}");
        }
    }

    fn read_with(extra: Value) -> Result<CircuitSpec, Faults> {
        let mut body = json!({"session_id": "s1", "service": "x", "targets": [], "access": {"public": true}});
        for (name, value) in extra.as_object().expect("an object") {
            body[name] = value.clone();
        }
        CircuitSpec::read(&body)
    }

    #[test]
    fn the_protocol_chooses_backend_and_way_in() {
        for (protocol, backend, has_port) in [
            ("http", Backend::Http, false),
            ("preopen", Backend::Http, false),
            ("h2", Backend::H2, false),
            ("grpc", Backend::H2, true),
            ("tcp", Backend::Tcp, true),
            ("vnc", Backend::Tcp, true),
            ("rdp", Backend::Tcp, true),
            ("ssh", Backend::Tcp, true),
        ] {
            let spec = read_with(json!({"protocol": protocol})).expect(protocol);
            assert_eq!(spec.backend, backend, "{protocol}");
            assert_eq!(matches!(spec.frontend, FrontendRequest::Port { .. }), has_port, "{protocol}");
        }
        assert_eq!(read_with(json!({"protocol": "http", "backend": "h2"})).expect("valid").backend, Backend::H2);
    }

    #[test]
    fn what_no_backend_can_carry_is_a_contradiction() {
        for (pointer, extra) in [
            ("/backend", json!({"protocol": "ssh", "backend": "http"})),
            ("/backend", json!({"protocol": "grpc", "backend": "http"})),
            ("/frontend/mode", json!({"protocol": "tcp", "frontend": {"mode": "subdomain"}})),
            ("/frontend/mode", json!({"protocol": "http", "backend": "tcp", "frontend": {"mode": "subdomain"}})),
            ("/headers", json!({"protocol": "tcp", "headers": {"request": {"remove": ["x"]}}})),
            ("/timeouts/first_byte_ms", json!({"protocol": "tcp", "timeouts": {"first_byte_ms": 5}})),
            ("/proxy_protocol", json!({"protocol": "http", "proxy_protocol": "v2"})),
            ("/affinity/cookie", json!({"protocol": "tcp", "affinity": {"cookie": true}})),
            ("/retries/idempotent", json!({"protocol": "tcp", "retries": {"idempotent": true}})),
        ] {
            let faults = read_with(extra.clone()).expect_err(pointer);
            assert_eq!(pointers(&faults), [(pointer, FaultCode::Contradiction)], "{extra}");
        }
    }

    #[test]
    fn a_change_keeps_to_what_the_backend_honours() {
        let stream = read_with(json!({"protocol": "tcp", "proxy_protocol": "v1"})).expect("valid");
        let change = |body: Value| CircuitPatch::read(&body).expect("valid").applied_to(&stream);
        let faults = change(json!({"headers": {"response": {"set": {"x-a": "b"}}}})).expect_err("a byte stream");
        assert_eq!(pointers(&faults), [("/headers", FaultCode::Contradiction)]);
        let changed = change(json!({"timeouts": {"idle_s": 9}, "proxy_protocol": "off"})).expect("valid");
        assert_eq!((changed.traffic.timeouts.idle_s, changed.traffic.proxy_protocol), (Some(9), None));
    }

    #[test]
    fn targets_and_how_they_are_chosen_are_read() {
        let spec = read_with(json!({
            "targets": [{"host": "10.0.0.1", "port": 80, "weight": 5}, {"host": "10.0.0.2", "port": 80, "weight": 0}],
            "load_balancing": {"strategy": "least_connections"}, "affinity": {"cookie": true},
            "retries": {"idempotent": true, "attempts": 5}, "health_check": {"type": "tcp"},
        }))
        .expect("valid");
        assert_eq!(spec.targets.iter().map(|target| target.weight).collect::<Vec<_>>(), [5, 0]);
        assert_eq!(spec.load_balancing.strategy, Strategy::LeastConnections);
        assert_eq!(spec.traffic.affinity, Affinity { cookie: true });
        assert_eq!(spec.traffic.retries, Retries { idempotent: true, attempts: 5 });
        assert!(spec.traffic.health_check.is_some());
        for (pointer, extra) in [
            ("/targets/0/weight", json!({"targets": [{"host": "10.0.0.1", "port": 80, "weight": 65_536}]})),
            ("/targets/0/weight", json!({"targets": [{"host": "10.0.0.1", "port": 80, "weight": -1}]})),
            ("/load_balancing/strategy", json!({"load_balancing": {"strategy": "random"}})),
            ("/retries/attempts", json!({"retries": {"attempts": 0}})),
        ] {
            assert_eq!(pointers(&read_with(extra).expect_err(pointer))[0].0, pointer);
        }
    }

    #[test]
    fn a_change_can_take_a_health_check_away() {
        let spec = read_with(json!({"health_check": {"type": "tcp"}})).expect("valid");
        let change = |body: Value| CircuitPatch::read(&body).expect("valid").applied_to(&spec).expect("fits");
        assert_eq!(change(json!({"health_check": {"type": "none"}})).traffic.health_check, None);
        assert_eq!(change(json!({"labels": {}})).traffic.health_check, spec.traffic.health_check);
    }

    #[test]
    fn a_change_cannot_move_a_circuit() {
        let faults = CircuitPatch::read(&json!({"frontend": {"mode": "port"}, "targets": []})).expect_err("immutable");
        assert_eq!(pointers(&faults), [("/frontend", FaultCode::Immutable)]);
        assert!(CircuitPatch::read(&json!({})).is_err());
        assert!(CircuitPatch::read(&json!({"targets": []})).is_ok());
    }

    #[test]
    fn owner_and_mode_must_agree() {
        let base = |extra: Value| {
            let mut body = json!({"service": "x", "targets": []});
            for (name, value) in extra.as_object().expect("an object") {
                body[name] = value.clone();
            }
            CircuitSpec::read(&body)
        };
        assert!(base(json!({"endpoint_id": "e1"})).is_ok());
        assert!(base(json!({"endpoint_id": "e1", "app_mode": "inference"})).is_ok());
        assert!(base(json!({"session_id": "s1", "endpoint_id": "e1"})).is_err());
        assert!(base(json!({"session_id": "s1", "app_mode": "inference"})).is_err());
        assert!(base(json!({})).is_err());
    }
}
