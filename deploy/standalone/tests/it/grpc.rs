//! gRPC through the proxy, as Google's own client and server for Python speak it.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use testkit::http2::Http2Origin;
use testkit::manager::host_and_port;
use testkit::ports::DeadPort;
use testkit::wait::within;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::apps::{drive, driver, python};
use crate::harness::{Proxy, circuit};

/// The service; it ends with its handle.
struct Service {
    address: SocketAddr,
    _child: Child,
}

impl Service {
    async fn start() -> Self {
        let mut command = Command::new(python());
        command.arg(driver("grpc_driver.py")).args(["--serve", "0"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        within("the service's port", output.read_line(&mut line)).await.unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let port = u16::try_from(ready["port"].as_u64().unwrap()).unwrap();
        Self { address: ([127, 0, 0, 1], port).into(), _child: child }
    }
}

/// Opens a circuit that speaks gRPC, and says where it is.
async fn open(proxy: &Proxy, service: &str, targets: &[SocketAddr]) -> String {
    let mut body = circuit("s1", service, "port", targets);
    body["protocol"] = "grpc".into();
    let (_, port) = host_and_port(&proxy.manager.open(body).await);
    format!("127.0.0.1:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_of_all_kinds_are_as_if_there_were_no_proxy() {
    let service = Service::start().await;
    let direct = drive("grpc_driver.py", &["--address", &service.address.to_string()]).await;
    let proxy = Proxy::start(10).await;
    let address = open(&proxy, "grpc", &[service.address]).await;
    let answer = drive("grpc_driver.py", &["--address", &address]).await;
    assert_eq!(answer["ok"], true);
    assert_eq!(answer, direct);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_clients_hear_that_a_service_is_unavailable() {
    let proxy = Proxy::start(10).await;
    let dead = DeadPort::hold();
    let nobody = open(&proxy, "nobody", &[]).await;
    let gone = open(&proxy, "gone", &[([127, 0, 0, 1], dead.port()).into()]).await;
    for address in [nobody, gone] {
        let answer = drive("grpc_driver.py", &["--address", &address, "--status", "UNAVAILABLE"]).await;
        assert_eq!(answer["status"], "UNAVAILABLE");
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_clients_see_the_answer_of_a_service_that_is_no_grpc() {
    let proxy = Proxy::start(10).await;
    let origin = Http2Origin::start("a page").await;
    let address = open(&proxy, "page", &[origin.address()]).await;
    // The answer passes as it is: the client makes of it what its own table says for a 200 without a status.
    let answer = drive("grpc_driver.py", &["--address", &address, "--status", "UNKNOWN"]).await;
    assert_eq!(answer["status"], "UNKNOWN");
    proxy.stop().await;
}
