//! Endpoints that are dead, silent, frozen or out of their mind cost a call no more than its time limit.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use entities::ids::Revision;
use entities::registry::etcd::EtcdRegistry;
use entities::registry::etcd::config::EtcdConfig;
use entities::registry::{Expected, Registry, RegistryError, Swap};
use testkit::etcd::{Etcd, FakeEtcd, Program, RANGE, WATCH};
use testkit::ports::DeadPort;
use testkit::wait::{wait_until, within};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

testkit::on_each_etcd!(
    dead_endpoints_in_front_of_a_live_one_do_no_harm,
    a_silent_endpoint_in_front_of_a_live_one_does_no_harm,
    a_frozen_etcd_ends_calls_and_watches_and_is_usable_again,
);

/// Protobuf of a header that says revision 5, and nothing else.
const HEADER: &[u8] = &[0x0a, 0x02, 0x18, 0x05];
/// Protobuf of the same header and `created: true`.
const CREATED: &[u8] = &[0x0a, 0x02, 0x18, 0x05, 0x18, 0x01];
/// Protobuf of an answer without a header, upon which etcd-rs panics.
const NOTHING: &[u8] = &[];

fn registry_at(endpoints: &[String], time_limit: Duration) -> EtcdRegistry {
    let mut config = EtcdConfig::new(endpoints);
    config.request_timeout = time_limit;
    EtcdRegistry::new(config).expect("a valid configuration")
}

/// A port where connections are made and nothing is ever answered.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, endpoint)
}

async fn write(registry: &EtcdRegistry, key: &str) -> Result<Swap, RegistryError> {
    registry.put(key, Expected::Absent, b"x".to_vec(), None).await
}

async fn dead_endpoints_in_front_of_a_live_one_do_no_harm(program: Program) {
    let etcd = Etcd::start(program).await;
    let dead = [DeadPort::hold(), DeadPort::hold()].map(|port| (format!("http://127.0.0.1:{}", port.port()), port));
    let endpoints = [dead[0].0.clone(), dead[1].0.clone(), etcd.endpoint()];
    for operation in ["write", "read", "watch", "lease"] {
        let registry = registry_at(&endpoints, Duration::from_secs(5));
        let start = Instant::now();
        match operation {
            "write" => assert!(matches!(write(&registry, "/a").await, Ok(Swap::Done(_)))),
            "read" => assert!(registry.get("/a").await.is_ok()),
            "watch" => assert!(registry.watch("/a", Revision(2)).await.is_ok()),
            _ => assert!(registry.grant_lease(Duration::from_secs(60)).await.is_ok()),
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{operation} took {:?}", start.elapsed());
    }
}

async fn a_silent_endpoint_in_front_of_a_live_one_does_no_harm(program: Program) {
    let etcd = Etcd::start(program).await;
    let (_listener, silent) = silent();
    let registry = registry_at(&[silent, etcd.endpoint()], Duration::from_secs(2));
    assert!(registry.get("/a").await.is_ok(), "the second endpoint has half of the time");
    assert!(matches!(write(&registry, "/a").await, Ok(Swap::Done(_))), "and is asked first from now on");
}

#[tokio::test]
async fn a_write_that_may_have_happened_is_not_made_again_elsewhere() {
    let etcd = Etcd::start(Program::Current).await;
    let (_listener, silent) = silent();
    let registry = registry_at(&[silent, etcd.endpoint()], Duration::from_secs(1));
    assert!(matches!(write(&registry, "/a").await, Err(RegistryError::Unavailable(_))));
    let (entry, _) = registry.get("/a").await.expect("the next call begins at the other endpoint");
    assert_eq!(entry, None);
}

#[tokio::test]
async fn an_etcd_that_never_answers_is_an_error_within_the_time_limit() {
    let time_limit = Duration::from_millis(300);
    let (_listener, silent) = silent();
    let registry = registry_at(&[silent], time_limit);
    let start = Instant::now();
    assert!(matches!(registry.list("/").await, Err(RegistryError::Unavailable(_))));
    assert!(matches!(registry.watch("/", Revision(1)).await, Err(RegistryError::Unavailable(_))));
    assert!(matches!(write(&registry, "/a").await, Err(RegistryError::Unavailable(_))));
    assert!(start.elapsed() >= 3 * time_limit);
    assert!(start.elapsed() < 3 * time_limit + Duration::from_secs(2), "it took {:?}", start.elapsed());
}

/// As when a firewall has forgotten a connection: new ones work, the old one swallows everything.
#[tokio::test]
async fn a_connection_that_fell_silent_is_not_used_again() {
    let fake = FakeEtcd::start(&[(RANGE, &[HEADER])]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let mut firewall = JoinSet::new();
    firewall.spawn(async move {
        let (_swallowed, _) = listener.accept().await.expect("a connection");
        let (mut client, _) = listener.accept().await.expect("another connection");
        let mut server = TcpStream::connect(fake.address()).await.expect("the fake listens");
        copy_bidirectional(&mut client, &mut server).await.expect("nothing resets it");
    });
    let registry = registry_at(&[endpoint], Duration::from_millis(500));
    assert!(matches!(registry.get("/a").await, Err(RegistryError::Unavailable(_))));
    assert_eq!(registry.get("/a").await, Ok((None, Revision(5))));
}

#[tokio::test]
async fn dead_endpoints_are_all_named_in_the_error() {
    let ports = [DeadPort::hold(), DeadPort::hold()];
    let endpoints = ports.each_ref().map(|port| format!("http://127.0.0.1:{}", port.port()));
    let Err(RegistryError::Unavailable(reason)) = registry_at(&endpoints, Duration::from_secs(5)).get("/a").await
    else {
        panic!("nobody is there")
    };
    assert!(ports.iter().all(|port| reason.contains(&format!("127.0.0.1:{}: ", port.port()))), "{reason}");
}

async fn a_frozen_etcd_ends_calls_and_watches_and_is_usable_again(program: Program) {
    let etcd = Etcd::start(program).await;
    let mut config = etcd.config();
    config.request_timeout = Duration::from_millis(500);
    config.keep_alive_interval = Duration::from_millis(500);
    config.keep_alive_timeout = Duration::from_millis(500);
    let registry = EtcdRegistry::new(config).expect("a valid configuration");
    let mut watch = registry.watch("/", Revision(2)).await.expect("watches");
    etcd.freeze();
    assert!(matches!(registry.get("/a").await, Err(RegistryError::Unavailable(_))));
    assert_eq!(within("the watch's end", watch.next()).await, None);
    etcd.thaw();
    wait_until("an answer", async || registry.get("/a").await.is_ok()).await;
}

#[tokio::test]
async fn an_answer_that_makes_the_client_panic_is_a_broken_call() {
    let fake = FakeEtcd::start(&[(RANGE, &[NOTHING])]).await;
    let registry = registry_at(&[fake.endpoint()], Duration::from_secs(5));
    for _ in 0..2 {
        let answer = registry.get("/a").await;
        assert!(matches!(&answer, Err(RegistryError::Unavailable(reason)) if reason.contains("expects")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_message_that_makes_the_client_panic_ends_the_watch() {
    let fake = FakeEtcd::start(&[(RANGE, &[HEADER]), (WATCH, &[CREATED, NOTHING])]).await;
    let registry = registry_at(&[fake.endpoint()], Duration::from_secs(5));
    let mut watch = registry.watch("/", Revision(6)).await.expect("created");
    assert_eq!(within("the watch's end", watch.next()).await, None);
    assert_eq!(registry.get("/a").await, Ok((None, Revision(5))), "calls go on");
}
