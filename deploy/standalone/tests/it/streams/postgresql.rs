//! PostgreSQL's own clients through a circuit.

use testkit::postgres::{Postgres, program};
use tokio::process::Command;

use super::{circuit, succeed};
use crate::harness::{Proxy, host_and_port};

/// A client with none of the caller's settings.
fn client(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.env_clear().env("LANG", "C.UTF-8");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_pgbench_work_through_a_circuit_and_no_transaction_fails() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(10).await;
    let opened = proxy.manager.open(circuit("tcp", postgres.address())).await;
    let (through, _) = host_and_port(&opened);
    assert_eq!(opened["url"], format!("tcp://{through}"));
    let database = postgres.create_database().replace(&postgres.address().to_string(), &through);

    let answer = succeed(client("psql").args(["-X", "-A", "-t", "-c", "select 42", &database])).await;
    assert_eq!(answer, "42\n");
    succeed(client("pgbench").args(["-i", "-s", "1", &database])).await;
    let report = succeed(client("pgbench").args(["-T", "3", "-c", "4", &database])).await;
    assert!(report.contains("number of failed transactions: 0 "), "{report}");
    let processed = report.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    assert!(processed.unwrap().parse::<u64>().unwrap() > 0, "{report}");
    proxy.stop().await;
}
