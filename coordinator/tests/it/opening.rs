//! Opening: what is asked for is checked whole, and a slot is given once.

use entities::limits::MAX_API_BODY_BYTES;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fake_worker::{FakeWorker, authority, main_authority};
use crate::harness::{Coordinator, circuit, named_circuit, patient, port_circuit};

#[tokio::test(flavor = "multi_thread")]
async fn created_answers_with_everything_there_is_to_know() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let body = json!({
        "session_id": "6F9619FF-8B86-4D01-B42D-00CF4FC964FF", "service": "jupyter", "variant": "gpu",
        "frontend": {"mode": "subdomain", "subdomain": "alice-lab"},
        "targets": [{"host": "10.0.0.5", "port": 8888}, {"host": "node-2", "port": 80, "weight": 1}],
        "access": {"user_id": "alice"}, "labels": {"project": "atlas"},
    });
    let reply = coordinator.manager.post("/v2/circuits", body).await;
    let key = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff:jupyter:gpu";
    let location = format!("/v2/circuits/{key}");
    assert_eq!(reply.header("location"), Some(location.as_str()));
    assert_eq!(reply.header("etag"), Some("\"1\""));
    let mut opened = reply.expect(201);

    let object = opened.as_object_mut().unwrap();
    let id = object.remove("id").unwrap();
    assert!(Uuid::try_parse(id.as_str().unwrap()).is_ok(), "{id}");
    let applied = object.remove("applied").unwrap();
    assert!(applied["revision"].as_u64().unwrap() > 0);
    assert_eq!((&applied["workers"], &applied["pending"]), (&json!(["w1"]), &json!([])));
    assert_eq!(
        opened,
        json!({
            "key": key, "session_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "service": "jupyter", "variant": "gpu",
            "app_mode": "interactive", "protocol": "http", "backend": "http", "authority": "main",
            "frontend": {"mode": "subdomain", "subdomain": "alice-lab", "host": "alice-lab.apps.test"},
            "url": "http://alice-lab.apps.test:8080/", "status": "HEALTHY", "generation": 1,
            "targets": [
                {"host": "10.0.0.5", "port": 8888, "weight": 1, "healthy": null},
                {"host": "node-2", "port": 80, "weight": 1, "healthy": null},
            ],
            "load_balancing": {"strategy": "round_robin"}, "affinity": {"cookie": false},
            "retries": {"idempotent": false, "attempts": 3}, "access": {"public": false, "user_id": "alice"},
            "timeouts": {}, "headers": {}, "labels": {"project": "atlas"},
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "warnings": [],
        })
    );
    let created_at = opened["created_at"].as_str().unwrap();
    assert!(OffsetDateTime::parse(created_at, &Rfc3339).is_ok(), "{created_at} is not RFC 3339");
    assert_eq!(coordinator.manager.get(&location).await.expect(200)["id"], id);
    assert_eq!(coordinator.ground.published_open(key).await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_circuit_has_the_port_in_its_url_and_an_endpoint_is_an_owner_too() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(port_circuit("s1", "app", Some(40_007))).await;
    assert_eq!(opened["url"], "http://edge.test:40007/");
    assert_eq!(opened["frontend"], json!({"mode": "port", "port": 40_007}));

    let body = json!({"endpoint_id": "e1", "app_mode": "inference", "service": "llm", "targets": []});
    let opened = coordinator.open(body).await;
    assert_eq!((&opened["endpoint_id"], &opened["session_id"]), (&json!("e1"), &Value::Null));
    assert_eq!((&opened["key"], &opened["app_mode"]), (&json!("e1:llm"), &json!("inference")));
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_again_answers_with_the_one_that_is_there() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(circuit("s1", "app")).await;
    let again = coordinator.manager.post("/v2/circuits", circuit("s1", "app")).await.expect(200);
    for field in ["id", "generation", "url", "status", "applied"] {
        assert_eq!(again[field], opened[field], "{field}");
    }

    let mut other = circuit("s1", "app");
    other["targets"] = json!([{"host": "10.0.0.6", "port": 8888}]);
    coordinator.manager.post("/v2/circuits", other).await.expect_problem(409, "other_content");
    let shown = coordinator.show("s1:app").await;
    assert_eq!((&shown["targets"], &shown["generation"]), (&opened["targets"], &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_named_at_once() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let body = json!({
        "session_id": "s 1", "service": "Jupyter", "frontend": {"mode": "port", "subdomain": "x"},
        "targets": [{"host": "10.0.0.1", "port": 0}, {"port": 80}], "labels": {"a/b": 1}, "surprise": true,
        "idle_timeout_s": 3600,
    });
    let reply = coordinator.manager.post("/v2/circuits", body).await;
    reply.expect_problem(400, "invalid_request");
    let mut faults = reply.faults();
    faults.sort_unstable();
    assert_eq!(
        faults,
        [
            ("/frontend/subdomain", "contradiction"),
            ("/idle_timeout_s", "not_supported"),
            ("/labels/a~1b", "wrong_type"),
            ("/service", "invalid"),
            ("/session_id", "invalid"),
            ("/surprise", "unknown_field"),
            ("/targets/0/port", "invalid"),
            ("/targets/1/host", "required"),
        ]
    );
    let page = coordinator.manager.get("/v2/circuits").await.expect(200);
    assert_eq!(page, json!({"items": []}), "nothing of it is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_json_object_is_refused() {
    let coordinator = Coordinator::start(patient()).await;
    for (text, pointer_and_code) in [
        ("", ("", "malformed")),
        ("{", ("", "malformed")),
        ("{\"a\":1}}", ("", "malformed")),
        ("\u{feff}{}", ("", "malformed")),
        ("[]", ("", "wrong_type")),
        ("null", ("", "wrong_type")),
    ] {
        let request = coordinator.manager.request("POST", "/v2/circuits").body(text);
        let reply = coordinator.manager.send(request).await;
        reply.expect_problem(400, "invalid_request");
        assert_eq!(reply.faults(), [pointer_and_code], "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_limit_is_refused_and_one_at_the_limit_is_not() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let limit = usize::try_from(MAX_API_BODY_BYTES).unwrap();
    let mut text = circuit("s1", "app").to_string();
    text.push_str(&" ".repeat(limit - text.len()));
    let post = async |text: String| {
        coordinator.manager.send(coordinator.manager.request("POST", "/v2/circuits").body(text)).await
    };
    post(text.clone() + " ").await.expect_problem(400, "body_too_large");
    post(text).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_whose_rule_is_not_enforced_are_refused() {
    let coordinator = Coordinator::start(patient()).await;
    for (pointer, field, value) in [
        ("/idle_timeout_s", "idle_timeout_s", json!(3_600)),
        ("/redeploy", "redeploy", json!("auto")),
        ("/backend", "backend", json!("traefik")),
    ] {
        let mut body = circuit("s1", "app");
        body[field] = value;
        let reply = coordinator.manager.post("/v2/circuits", body).await;
        reply.expect_problem(400, "not_supported");
        assert_eq!(reply.faults(), [(pointer, "not_supported")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_stream_gets_a_port_and_a_url_that_says_what_it_speaks() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    for (protocol, backend, scheme) in
        [("ssh", "tcp", "ssh"), ("vnc", "tcp", "vnc"), ("tcp", "tcp", "tcp"), ("grpc", "h2", "http")]
    {
        let body = json!({
            "session_id": "s1", "service": protocol, "protocol": protocol,
            "targets": [{"host": "10.0.0.1", "port": 22}], "timeouts": {"idle_s": 600},
            "access": {"public": true},
        });
        let opened = coordinator.open(body).await;
        assert_eq!((&opened["backend"], &opened["timeouts"]), (&json!(backend), &json!({"idle_s": 600})), "{opened}");
        assert_eq!(opened["frontend"]["mode"], "port", "{opened}");
        let url = opened["url"].as_str().unwrap();
        assert!(url.starts_with(&format!("{scheme}://")), "{url}");
        assert_eq!(url.ends_with('/'), scheme == "http", "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_backend_cannot_honour_is_refused_and_one_that_it_can_is_kept() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let body = json!({"session_id": "s1", "service": "db", "protocol": "tcp", "targets": [],
        "access": {"public": true}});
    let path = format!("/v2/circuits/{}", coordinator.open(body).await["key"].as_str().unwrap());
    let refused = coordinator.manager.patch(&path, json!({"headers": {"request": {"remove": ["cookie"]}}})).await;
    refused.expect_problem(400, "invalid_request");
    assert_eq!(refused.faults(), [("/headers", "contradiction")]);
    coordinator.manager.patch(&path, json!({"proxy_protocol": "v2"})).await.expect(200);
    assert_eq!(coordinator.manager.get(&path).await.expect(200)["proxy_protocol"], "v2");
    coordinator.manager.patch(&path, json!({"proxy_protocol": "off"})).await.expect(200);
    assert_eq!(coordinator.manager.get(&path).await.expect(200)["proxy_protocol"], serde_json::Value::Null);
    let limit = json!({"requests_per_s": 0.5, "burst": 1, "per": "client"});
    coordinator.manager.patch(&path, json!({"rate_limit": {"requests_per_s": 0.5}})).await.expect(200);
    assert_eq!(coordinator.manager.get(&path).await.expect(200)["rate_limit"], limit);
    coordinator.manager.patch(&path, json!({"bandwidth": {"bytes_per_s": 100_000}})).await.expect(200);
    assert_eq!(coordinator.manager.get(&path).await.expect(200)["bandwidth"], json!({"bytes_per_s": 100_000}));
    coordinator.manager.patch(&path, json!({"rate_limit": {"per": "none"}})).await.expect(200);
    assert_eq!(coordinator.manager.get(&path).await.expect(200)["rate_limit"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_taken_is_refused() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(named_circuit("s1", "app", "lab")).await;
    coordinator.open(port_circuit("s1", "web", Some(40_001))).await;
    let open = async |body| coordinator.manager.post("/v2/circuits", body).await;
    open(named_circuit("s2", "app", "lab")).await.expect_problem(409, "subdomain_taken");
    open(port_circuit("s2", "web", Some(40_001))).await.expect_problem(409, "port_taken");

    let reply = open(port_circuit("s2", "web", Some(39_999))).await;
    reply.expect_problem(400, "invalid_request");
    assert_eq!(reply.faults(), [("/frontend/port", "invalid")]);
    let page = coordinator.manager.get("/v2/circuits?session_id=s2").await.expect(200);
    assert_eq!(page["items"], json!([]), "what was refused left nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fitting_worker_nothing_opens() {
    let coordinator = Coordinator::start(patient()).await;
    let reply = coordinator.manager.post("/v2/circuits", circuit("s1", "app")).await;
    reply.expect_problem(503, "no_authority");
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);

    let _worker = FakeWorker::join_at(&coordinator, "w1", authority("main", Some("apps.test"), None)).await;
    let reply = coordinator.manager.post("/v2/circuits", port_circuit("s1", "app", None)).await;
    reply.expect_problem(503, "no_authority");
    coordinator.open(circuit("s1", "app")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_without_targets_is_unhealthy() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let opened = coordinator.open(json!({"session_id": "s1", "service": "app", "targets": []})).await;
    assert_eq!(opened["status"], "UNHEALTHY");
    assert_eq!(coordinator.circuit_status("s1:app").await, "UNHEALTHY");
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_names_differ_and_end_in_ten_random_letters() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let mut names = Vec::new();
    for session in ["s1", "s2"] {
        let opened = coordinator.open(circuit(session, "tensor.board_2")).await;
        let name = opened["frontend"]["subdomain"].as_str().unwrap().to_owned();
        let random = name.strip_prefix("tensor-board-2-").unwrap_or_else(|| panic!("{name} does not say what it is"));
        assert_eq!(random.len(), 10, "{name}");
        assert!(random.bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte)), "{name}");
        names.push(name);
    }
    assert_ne!(names[0], names[1]);
}

/// Promise 3.
#[tokio::test(flavor = "multi_thread")]
async fn no_port_is_given_twice_however_many_ask_at_once() {
    const PORTS: usize = 16;
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join_at(&coordinator, "w1", main_authority("40000-40015")).await;
    let mut opening = JoinSet::new();
    for index in 0..PORTS + 4 {
        let manager = coordinator.manager.clone();
        opening.spawn(
            async move { manager.post("/v2/circuits", port_circuit("s1", &format!("app-{index}"), None)).await },
        );
    }
    let replies = opening.join_all().await;
    let (opened, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 201);
    let mut ports: Vec<u64> = opened.iter().map(|reply| reply.body["frontend"]["port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    assert_eq!(ports, (40_000..40_016).collect::<Vec<u64>>());
    assert_eq!(refused.len(), 4);
    for reply in refused {
        reply.expect_problem(503, "no_free_port");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_opened_many_times_at_once_is_one_circuit() {
    let coordinator = Coordinator::start(patient()).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    let mut opening = JoinSet::new();
    for _ in 0..8 {
        let manager = coordinator.manager.clone();
        opening.spawn(async move { manager.post("/v2/circuits", circuit("s1", "app")).await });
    }
    let replies = opening.join_all().await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
    assert!(replies.iter().all(|reply| reply.body["id"] == replies[0].body["id"]));
}
