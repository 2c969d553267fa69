//! Closing: store (tombstone, slot starts to rest) → publish → wait.
//!
//! Invariant: after `Closed` no live worker takes a new connection for the circuit.

use std::collections::BTreeMap;

use entities::ids::{AuthorityName, CircuitKey, Generation, OwnerId, Revision, WorkerId};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{CircuitError, CircuitName, Circuits};
use crate::acks::Wanted;
use crate::store::{CloseTarget, Closed};

/// Closed circuits are published so many at a time.
const PUBLISH_CONCURRENCY: usize = 16;

/// How closing ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseResult {
    /// No live worker serves any of it any more.
    Closed {
        /// How many circuits were closed now.
        count: usize,
    },
    /// Stored, but these workers may still take connections for a moment.
    Pending {
        /// How many circuits were closed now.
        count: usize,
        /// The workers that have not said yet.
        pending: Vec<WorkerId>,
    },
}

// === impl Circuits ===

impl Circuits {
    /// Closes one circuit. Closing again while the key is remembered waits again and ends well.
    pub async fn close_one(&self, name: &CircuitName) -> Result<CloseResult, CircuitError> {
        let key = self.key_of(name).await?;
        let result = self.close(CloseTarget::Key(key.clone())).await?;
        let closed_nothing = matches!(result, CloseResult::Closed { count: 0 } | CloseResult::Pending { count: 0, .. });
        if !closed_nothing {
            return Ok(result);
        }
        let Some(tombstone) = self.store.tombstone(&key).await? else { return Err(CircuitError::NotFound) };
        self.release(vec![Closed::from(tombstone)], 0).await
    }

    /// Closes every circuit of a session or endpoint; none is fine too. Those that were closed a short while ago are
    /// waited for again.
    pub async fn close_owner(&self, owner: OwnerId) -> Result<CloseResult, CircuitError> {
        let earlier = self.store.tombstones_of(&owner).await?.into_iter().map(Closed::from).collect();
        self.close_and(CloseTarget::Owner(owner), earlier).await
    }

    pub(super) async fn close(&self, target: CloseTarget) -> Result<CloseResult, CircuitError> {
        self.close_and(target, Vec::new()).await
    }

    async fn close_and(&self, target: CloseTarget, earlier: Vec<Closed>) -> Result<CloseResult, CircuitError> {
        let mut closed = self.store.close_circuits(&target, self.clock.now_ms()).await?;
        let count = closed.len();
        for circuit in &closed {
            tracing::info!(key = %circuit.key, generation = %circuit.generation, "circuit closed");
        }
        self.metrics.circuits_closed_total.inc_by(u64::try_from(count).unwrap_or(0));
        closed.extend(earlier);
        self.release(closed, count).await
    }

    /// Publishes that circuits are closed and waits until their workers have let go.
    async fn release(&self, closed: Vec<Closed>, count: usize) -> Result<CloseResult, CircuitError> {
        let published: Vec<(Closed, Option<Revision>)> = stream::iter(closed)
            .map(|circuit| self.publish_closed(circuit))
            .buffer_unordered(PUBLISH_CONCURRENCY)
            .try_collect()
            .await?;
        let mut is_published = true;
        let mut last: BTreeMap<AuthorityName, Wanted> = BTreeMap::new();
        for (circuit, revision) in &published {
            let Some(revision) = *revision else {
                is_published = false;
                continue;
            };
            let wanted = Wanted {
                authority: circuit.authority.clone(),
                revision,
                key: circuit.key.clone(),
                generation: circuit.generation,
            };
            let newest = last.entry(circuit.authority.clone()).or_insert_with(|| wanted.clone());
            if newest.revision < revision {
                *newest = wanted;
            }
        }
        let mut pending = Vec::new();
        for wanted in last.values() {
            // A release needs no worker: an authority without any has nobody who could still serve.
            if self.acks.have_all_applied(&wanted.authority, wanted.revision) {
                continue;
            }
            let applied = self.acks.wait(wanted, self.timing.apply_timeout).await;
            self.acks.mark_late(&applied);
            pending.extend(applied.pending);
        }
        if pending.is_empty() && is_published {
            self.confirm(&published, &last).await?;
            Ok(CloseResult::Closed { count })
        } else {
            Ok(CloseResult::Pending { count, pending })
        }
    }

    /// Lets the released ports' rest count, if every worker, laggards included, has let go of them.
    async fn confirm(
        &self,
        published: &[(Closed, Option<Revision>)],
        last: &BTreeMap<AuthorityName, Wanted>,
    ) -> Result<(), CircuitError> {
        let have_let_go = |authority: &AuthorityName| {
            last.get(authority).is_some_and(|wanted| self.acks.have_all_applied(authority, wanted.revision))
        };
        let keys: Vec<(CircuitKey, Generation)> = published
            .iter()
            .filter(|(circuit, _)| have_let_go(&circuit.authority))
            .map(|(circuit, _)| (circuit.key.clone(), circuit.generation))
            .collect();
        Ok(self.store.confirm_ports(&keys).await?)
    }

    async fn publish_closed(&self, mut circuit: Closed) -> Result<(Closed, Option<Revision>), CircuitError> {
        match self.publisher.publish_tombstone(&self.store, &circuit.key, circuit.generation).await? {
            Ok((generation, revision)) => {
                circuit.generation = generation;
                Ok((circuit, Some(revision)))
            }
            Err(error) => {
                self.leave_to_reconcile(&circuit.key, &error);
                Ok((circuit, None))
            }
        }
    }
}
