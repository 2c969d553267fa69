//! Logins, permissions and TLS towards etcd.

use std::time::Instant;

use entities::ids::Revision;
use entities::registry::etcd::EtcdRegistry;
use entities::registry::etcd::config::{EtcdConfig, EtcdConfigError, TlsConfig};
use entities::registry::{Expected, Registry, RegistryError, Swap};
use testkit::etcd::{Etcd, Options, Program, READER, ROOT, credentials, other_ca_file};
use testkit::wait::{DEADLINE, wait_until, within};

testkit::on_each_etcd!(
    an_expired_token_is_replaced,
    a_login_that_becomes_necessary_is_made,
    a_wrong_password_is_an_error_without_it,
    without_credentials_an_etcd_that_wants_them_is_an_error,
    a_watch_that_is_not_permitted_is_an_error,
    tls_with_the_right_authority_carries_everything,
    an_etcd_that_another_authority_vouches_for_is_refused,
);

fn registry_of(etcd: &Etcd, user: (&str, &str)) -> EtcdRegistry {
    let mut config = etcd.config();
    config.credentials = Some(credentials(user));
    EtcdRegistry::new(config).expect("a valid configuration")
}

async fn an_expired_token_is_replaced(program: Program) {
    let arguments = vec!["--auth-token-ttl=1".to_owned(), "--log-level=debug".to_owned()];
    let options = Options { arguments, ..Options::default() };
    let etcd = Etcd::start_with(program, options).await;
    etcd.require_login().await;
    let registry = registry_of(&etcd, ROOT);
    let Ok(Swap::Done(first)) = registry.put("/a", Expected::Absent, b"1".to_vec(), None).await else {
        panic!("root may write")
    };
    let mut watch = registry.watch("/a", first.next()).await.expect("root may watch");
    wait_until("the token's end", async || etcd.has_logged("deleted a simple token")).await;
    let Ok(Swap::Done(second)) = registry.put("/a", Expected::At(first), b"2".to_vec(), None).await else {
        panic!("it logs in again")
    };
    assert_eq!(within("a batch", watch.next()).await.expect("a watch outlives its token").revision, second);
    assert!(registry.watch("/a", second).await.is_ok());
}

async fn a_login_that_becomes_necessary_is_made(program: Program) {
    let etcd = Etcd::start(program).await;
    let registry = registry_of(&etcd, ROOT);
    assert!(registry.get("/a").await.is_ok(), "credentials do no harm where none are needed");
    etcd.require_login().await;
    assert!(registry.get("/a").await.is_ok());
    assert!(registry.watch("/a", Revision(1)).await.is_ok());
}

async fn a_wrong_password_is_an_error_without_it(program: Program) {
    let etcd = Etcd::start(program).await;
    etcd.require_login().await;
    let registry = registry_of(&etcd, (ROOT.0, "wrong-secret"));
    let start = Instant::now();
    let Err(RegistryError::Unavailable(reason)) = registry.get("/a").await else { panic!("it is wrong") };
    assert!(start.elapsed() < DEADLINE);
    assert!(reason.contains("authentication failed"), "{reason}");
    for text in [reason, format!("{registry:?}"), format!("{:?}", credentials(ROOT))] {
        assert!(!text.contains("secret"), "{text}");
    }
}

async fn without_credentials_an_etcd_that_wants_them_is_an_error(program: Program) {
    let etcd = Etcd::start(program).await;
    etcd.require_login().await;
    let registry = etcd.registry();
    assert!(matches!(registry.list("/").await, Err(RegistryError::Unavailable(_))));
    assert!(matches!(registry.watch("/", Revision(1)).await, Err(RegistryError::Unavailable(_))));
}

/// etcd says "created" to such a watch and never sends it anything.
async fn a_watch_that_is_not_permitted_is_an_error(program: Program) {
    let etcd = Etcd::start(program).await;
    etcd.require_login().await;
    let registry = registry_of(&etcd, READER);
    let refused = registry.watch("/secret/", Revision(1)).await;
    assert!(
        matches!(&refused, Err(RegistryError::Unavailable(reason)) if reason.contains("permission denied")),
        "{refused:?}"
    );
    let mut watch = registry.watch("/readable/", Revision(1)).await.expect("permitted");
    let written = registry_of(&etcd, ROOT).put("/readable/a", Expected::Absent, b"x".to_vec(), None).await;
    let Ok(Swap::Done(revision)) = written else { panic!("root may write: {written:?}") };
    assert_eq!(within("a batch", watch.next()).await.expect("goes on").revision, revision);
    let refused = registry.put("/readable/b", Expected::Absent, b"x".to_vec(), None).await;
    assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "it may only read");
}

async fn tls_with_the_right_authority_carries_everything(program: Program) {
    let etcd = Etcd::start_with(program, Options { is_tls: true, ..Options::default() }).await;
    let registry = etcd.registry();
    let Ok(Swap::Done(revision)) = registry.put("/a", Expected::Absent, b"x".to_vec(), None).await else {
        panic!("it is the right authority")
    };
    let mut watch = registry.watch("/a", revision).await.expect("watches");
    assert_eq!(within("a batch", watch.next()).await.expect("goes on").revision, revision);
}

async fn an_etcd_that_another_authority_vouches_for_is_refused(program: Program) {
    let etcd = Etcd::start_with(program, Options { is_tls: true, ..Options::default() }).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = etcd.config();
    config.tls = Some(TlsConfig { ca_file: other_ca_file(folder.path()), cert_file: None, key_file: None });
    let registry = EtcdRegistry::new(config).expect("a valid configuration");
    let Err(RegistryError::Unavailable(reason)) = registry.get("/a").await else { panic!("it is another authority") };
    assert!(reason.contains("certificate verify failed"), "{reason}");
}

#[tokio::test]
async fn files_that_are_no_certificates_are_refused_at_once() {
    let mut config = EtcdConfig::new(["https://127.0.0.1:1"]);
    config.tls = Some(TlsConfig { ca_file: "/does/not/exist".into(), cert_file: None, key_file: None });
    assert!(matches!(EtcdRegistry::new(config).err(), Some(EtcdConfigError::File { .. })));
}
