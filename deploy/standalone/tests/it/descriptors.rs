//! A proxy that runs out of file descriptors gets over it, and gives every one back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::client::client;
use testkit::manager::circuit;
use testkit::origin::Origin;
use testkit::wait::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::program::Program;

/// How many more than it has when it is idle; each connection takes two.
const ROOM: usize = 60;

/// More connections than there is room for.
const CONNECTIONS: usize = 80;

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_descriptors_recovers_and_leaks_none() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path(), "127.0.0.1:0", "127.0.0.1:0").await;
    let (origin, target) = (Origin::start("lab").await, echo().await);
    let body = json!({
        "session_id": "s1", "service": "stream", "protocol": "tcp",
        "targets": [{"host": "127.0.0.1", "port": target.port()}],
        "access": {"public": true},
    });
    let opened = program.manager.open(body).await;
    let port = u16::try_from(opened["frontend"]["port"].as_u64().unwrap()).unwrap();
    let stream = SocketAddr::from(([127, 0, 0, 1], port));
    let page = program.manager.open(circuit("s1", "page", "subdomain", &[origin.address()])).await;
    let page = page["url"].as_str().unwrap().to_owned();
    assert!(client().get(&page).send().await.unwrap().status().is_success());
    assert!(echoes(&mut TcpStream::connect(stream).await.unwrap()).await);
    let idle = descriptors(&program);

    for _ in 0..2 {
        limit(&program, idle + ROOM).await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(TcpStream::connect(stream).await.unwrap());
        }
        let mut served = 0;
        for connection in &mut held {
            served += usize::from(echoes(connection).await);
        }
        assert!(served > 0 && served < CONNECTIONS, "{served} of {CONNECTIONS} were served");
        drop(held);
        wait_until("a stream to be served again", async || match TcpStream::connect(stream).await {
            Ok(mut connection) => echoes(&mut connection).await,
            Err(_) => false,
        })
        .await;
        wait_until("a page to be served again", async || {
            client().get(&page).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        // A connection to the page's target, one of the client, and a few pipes may be kept for their next use.
        wait_until("the descriptors", async || descriptors(&program) <= idle + 6).await;
    }
    let metrics = client().get(format!("http://{}/metrics", program.edge)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("appproxy_edge_target_faults_total{reason=\"connect\"} 0"), "no target was to blame");
    assert!(program.terminate().await);
}

/// Whether the other end sends back what it gets, soon.
async fn echoes(connection: &mut TcpStream) -> bool {
    let exchange = async {
        connection.write_all(b"ping").await?;
        let mut answer = [0; 4];
        connection.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == *b"ping")
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), exchange).await, Ok(Ok(true)))
}

/// A target that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reading, mut writing) = connection.split();
                // A client that goes ends a connection, and that is no fault.
                let _ = tokio::io::copy(&mut reading, &mut writing).await;
            });
        }
    });
    address
}

fn descriptors(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.process_id())).unwrap().count()
}

async fn limit(program: &Program, count: usize) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &program.process_id().to_string(), &format!("--nofile={count}:")]);
    assert!(command.status().await.unwrap().success());
}
