//! A data folder with many circuits, as a standalone proxy leaves it.
//!
//! Invariant: the circuits are written by the coordinator's own store, so they are what it would have written.

use std::net::SocketAddr;
use std::path::Path;

use coordinator::config::Timing;
use coordinator::placement::Place;
use coordinator::slots::RestRules;
use coordinator::store::{DatabaseConfig, NewCircuit, OpenOutcome, Store};
use entities::clock::{Clock as _, SystemClock};
use standalone::data::Data;
use tokio::task::JoinSet;

use crate::circuits;
use crate::process::AppProxy;

/// Stores circuits 0 to `count` - 1 in the folder of a proxy that has run once and does not run now.
pub async fn fill(dir: &Path, count: usize, target: SocketAddr) {
    let data = Data::open(dir).expect("the folder is free");
    let store = Store::open(&DatabaseConfig::own(data.database_url())).await.expect("the database opens");
    fill_store(&store, 1, count, target).await;
}

/// Stores circuits 0 to `count` - 1, `writers` at a time, where an edge with a domain has registered.
pub async fn fill_store(store: &Store, writers: usize, count: usize, target: SocketAddr) {
    let authority = store.authorities().await.expect("a row").pop().expect("an edge has registered here");
    let domain = authority.subdomains.clone().expect("the edge has a domain");
    let place = Place::Subdomain(authority, domain);
    let mut tasks = JoinSet::new();
    for first in 0..writers {
        let (store, place) = (store.clone(), place.clone());
        tasks.spawn(async move {
            for number in (first..count).step_by(writers) {
                let new = NewCircuit {
                    spec: circuits::spec(number, target),
                    place: place.clone(),
                    now_ms: SystemClock.now_ms(),
                    rests: RestRules::from(&Timing::default()),
                };
                let outcome = store.open_circuit(&new).await.expect("stored");
                assert!(matches!(outcome, OpenOutcome::Opened(_)), "circuit {number}: {outcome:?}");
            }
        });
    }
    tasks.join_all().await;
}

/// Makes a folder in which a proxy has run and `count` circuits are stored.
pub async fn prepare(program: &Path, dir: &Path, count: usize, target: SocketAddr) {
    AppProxy::start(program, dir).stop();
    if count > 0 {
        fill(dir, count, target).await;
    }
}
