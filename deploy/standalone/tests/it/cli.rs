//! What people meet on the command line: the ready line, restarts, wrong usage.

use http::StatusCode;
use testkit::client::client;
use testkit::origin::Origin;

use crate::harness::circuit;
use crate::program::{Program, command};

const ANY: &str = "127.0.0.1:0";

#[tokio::test(flavor = "multi_thread")]
async fn circuits_survive_a_restart_and_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let origin = Origin::start("app").await;
    let mut program = Program::start(data.path(), ANY, ANY).await;
    let (api, edge) = (program.manager.api.to_string(), program.edge.to_string());
    let by_name = program.manager.open(circuit("s1", "a", "subdomain", &[origin.address()])).await;
    let by_port = program.manager.open(circuit("s1", "b", "port", &[origin.address()])).await;
    let urls = [by_name["url"].as_str().unwrap(), by_port["url"].as_str().unwrap()];
    program.kill().await;

    let program = Program::start(data.path(), &api, &edge).await;
    for url in urls {
        assert_eq!(client().get(url).send().await.unwrap().status(), StatusCode::OK, "{url} after kill -9");
    }
    let (_, shown) = program.manager.call("GET", "/v2/circuits/s1:a", None).await;
    assert_eq!((&shown["id"], &shown["generation"]), (&by_name["id"], &by_name["generation"]));
    assert!(program.terminate().await, "SIGTERM ends it well");

    let program = Program::start(data.path(), &api, &edge).await;
    for url in urls {
        assert_eq!(client().get(url).send().await.unwrap().status(), StatusCode::OK, "{url} after SIGTERM");
    }
    assert!(program.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_line_is_followed_by_an_example_that_works() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start(data.path(), ANY, ANY).await;
    let mut example = String::new();
    loop {
        let line = program.line().await;
        if line.starts_with("and open") {
            break;
        }
        let is_command = line.starts_with("curl ") || line.starts_with("  -d");
        if is_command {
            example.push_str(&line);
            example.push('\n');
        }
    }
    let service = Origin::start("service").await;
    let example = example.replace("8000", &service.target().port.to_string());
    let output = tokio::process::Command::new("sh").arg("-c").arg(&example).output().await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{example}"));
    assert_eq!(answer["key"], "s1:demo");
    let opened = client().get(answer["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(opened.status(), StatusCode::OK, "everybody may use it");
    assert!(program.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_does_not_share_the_data_folder() {
    let data = tempfile::tempdir().unwrap();
    let first = Program::start(data.path(), ANY, ANY).await;
    let second = command().args(["--api", ANY, "--edge", ANY, "--data"]).arg(data.path()).output().await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("another appproxy uses the data folder"), "{text}");
    assert!(first.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_and_taken_ports_say_so_with_their_exit_codes() {
    let held = std::net::TcpListener::bind(ANY).unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--no-such-option"], 64, "--no-such-option"),
        (&["--api", "nowhere"], 64, "--api"),
        (&["--ports", "5-1"], 64, "FIRST-LAST"),
        (&["--domain", "not a name"], 64, "--domain"),
        (&["--data", data, "--api", ANY, "--edge", ANY, "--public-port", "0"], 64, "--public-port"),
        (&["--data", data, "--api", &taken, "--edge", ANY], 1, "--api"),
        (&["--api", ANY, "--edge", ANY], 64, "--data"),
    ];
    for (arguments, code, mentioned) in cases {
        let output = command().args(arguments).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(mentioned), "{arguments:?}: {text}");
    }
    let help = command().arg("--help").output().await.unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--ports"));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_do_not_reach_the_log() {
    let data = tempfile::tempdir().unwrap();
    let mut child = command()
        .args(["--api", ANY, "--edge", ANY, "--log", "trace", "--data"])
        .arg(data.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    testkit::wait::within("the ready line", lines.next_line()).await.unwrap();
    child.start_kill().unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("TRACE"), "the log is as talkative as it can be");
    for name in ["api.key", "read.key", "worker.key"] {
        let key = std::fs::read_to_string(data.path().join(name)).unwrap();
        assert!(!text.contains(key.trim()), "{name} stands in the log");
    }
}
