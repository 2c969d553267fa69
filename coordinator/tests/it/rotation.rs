//! Keys are replaced while everything goes on: the file is read again, and nobody who holds an accepted key notices.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coordinator::config::api::ApiConfig;
use coordinator::keys::file;
use testkit::wait::wait_until;

use tracing::level_filters::LevelFilter;

use crate::audit::Log;
use crate::fake_worker::FakeWorker;
use crate::harness::{Coordinator, Ground, MANAGER_KEY, WORKER_KEY, circuit, patient};

const NEW_MANAGER_KEY: &str = "manager-key-new-51c3";
const NEW_WORKER_KEY: &str = "worker-key-new-88f0";

/// Replaces the file as configuration management and mounted secrets do.
fn write(path: &Path, lines: &[String]) {
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, lines.join("\n")).unwrap();
    std::fs::rename(unfinished, path).unwrap();
}

fn line(scope: &str, key: &str) -> String {
    format!("{scope} {key}")
}

async fn start(path: &Path) -> Coordinator {
    let keys = file::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let api = ApiConfig { keys_file: Some(path.to_owned()), ..ApiConfig::default() };
    Coordinator::start_api(Ground::new(), patient(), keys, api).await
}

async fn wait_for_state(coordinator: &Coordinator, result: &str) {
    let name = format!("appproxy_coordinator_key_files_total{{result=\"{result}\"}}");
    wait_until(result, async || coordinator.metric(&name).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manager_and_worker_keys_are_rotated_without_losing_a_call() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    write(&path, &[line("manager", MANAGER_KEY), line("worker", WORKER_KEY)]);
    let coordinator = start(&path).await;
    let worker = FakeWorker::join(&coordinator, "w1").await;

    let has_new_key = Arc::new(AtomicBool::new(false));
    let is_over = Arc::new(AtomicBool::new(false));
    let managing = tokio::spawn({
        let callers = [MANAGER_KEY, NEW_MANAGER_KEY].map(|key| coordinator.caller(Some(key)));
        let (has_new_key, is_over) = (Arc::clone(&has_new_key), Arc::clone(&is_over));
        async move {
            let mut count = 0;
            while !is_over.load(Ordering::SeqCst) {
                let caller = &callers[usize::from(has_new_key.load(Ordering::SeqCst))];
                caller.post("/v2/circuits", circuit("s1", &format!("app{count}"))).await.expect(201);
                count += 1;
            }
            count
        }
    });

    // The order of the steps is that of the README.
    worker.accept_keys(&[WORKER_KEY, NEW_WORKER_KEY]);
    let both = [
        line("manager", NEW_MANAGER_KEY),
        line("manager", MANAGER_KEY),
        line("worker", NEW_WORKER_KEY),
        line("worker", WORKER_KEY),
    ];
    write(&path, &both);
    worker.is_shown(NEW_WORKER_KEY).await;
    has_new_key.store(true, Ordering::SeqCst);
    worker.heartbeat(&coordinator).await.expect(204);
    worker.heartbeat_with(&coordinator, NEW_WORKER_KEY).await.expect(204);
    worker.accept_keys(&[NEW_WORKER_KEY]);

    let old_manager = coordinator.caller(Some(MANAGER_KEY));
    old_manager.get("/v2/circuits").await.expect(200);
    wait_until("a call with the new key", async || {
        let page = coordinator.caller(Some(NEW_MANAGER_KEY)).get("/v2/circuits?limit=1000").await.expect(200);
        page["items"].as_array().unwrap().len() > 1
    })
    .await;
    is_over.store(true, Ordering::SeqCst);
    assert!(managing.await.unwrap() > 1);

    write(&path, &[line("manager", NEW_MANAGER_KEY), line("worker", NEW_WORKER_KEY)]);
    wait_until("the end of the old key", async || old_manager.get("/v2/circuits").await.status == 401).await;
    worker.heartbeat(&coordinator).await.expect_problem(401, "unauthorized");
    let manager = coordinator.caller(Some(NEW_MANAGER_KEY));
    manager.post("/v2/circuits", circuit("s1", "last")).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_faults_or_none_at_all_keeps_the_known_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    write(&path, &[line("manager", MANAGER_KEY), line("worker", WORKER_KEY)]);
    let coordinator = start(&path).await;
    let newcomer = coordinator.caller(Some(NEW_MANAGER_KEY));
    write(&path, &[line("manager", NEW_MANAGER_KEY), line("worcer", NEW_WORKER_KEY)]);
    wait_for_state(&coordinator, "faulty").await;
    newcomer.get("/v2/circuits").await.expect_problem(401, "unauthorized");
    coordinator.manager.get("/v2/circuits").await.expect(200);
    std::fs::remove_file(&path).unwrap();
    wait_for_state(&coordinator, "unreadable").await;
    coordinator.manager.get("/v2/circuits").await.expect(200);
    write(&path, &[line("manager", NEW_MANAGER_KEY), line("worker", NEW_WORKER_KEY)]);
    wait_until("the new key", async || newcomer.get("/v2/circuits").await.status == 200).await;
    coordinator.manager.get("/v2/circuits").await.expect_problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_which_only_the_digest_is_known_opens_what_its_scope_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let hashed = file::hashed_line("manager", MANAGER_KEY, Some("ops-1")).unwrap();
    write(&path, &[hashed, line("worker", WORKER_KEY)]);
    let coordinator = start(&path).await;
    let _worker = FakeWorker::join(&coordinator, "w1").await;
    coordinator.open(circuit("s1", "app")).await;
}

#[tokio::test]
async fn a_file_that_others_may_read_is_warned_of_and_used() {
    for (mode, is_warned_of) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true)] {
        let (log, _guard) = Log::capture(LevelFilter::WARN);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        write(&path, &[line("manager", MANAGER_KEY), line("worker", WORKER_KEY)]);
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let coordinator = start(&path).await;
        wait_for_state(&coordinator, "accepted").await;
        assert_eq!(log.text().contains("others may read"), is_warned_of, "{mode:o}: {}", log.text());
        coordinator.manager.get("/v2/circuits").await.expect(200);
    }
}

#[test]
fn the_command_line_makes_a_line_for_a_key_from_standard_input_and_does_not_repeat_it() {
    let hash = |key: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appproxy-coordinator"));
        command
            .args(["keys", "hash"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        running.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
        let ended = running.wait_with_output().unwrap();
        let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        assert!(!text.contains(key.trim()), "{text}");
        (ended.status.code(), text)
    };
    let (code, text) = hash(&format!("{MANAGER_KEY}\n"), &["--scope", "read", "--name", "board"]);
    let wanted = file::hashed_line("read", MANAGER_KEY, Some("board")).unwrap();
    assert_eq!((code, text), (Some(0), format!("{wanted}\n")));
    let (code, text) = hash(WORKER_KEY, &["--scope", "worker"]);
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("a worker's key must stand here itself"), "{text}");
    assert_eq!(hash("too-short", &[]).0, Some(64));
}
