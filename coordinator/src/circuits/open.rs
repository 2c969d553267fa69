//! Opening: place → slot → store → publish → wait; another port when a worker cannot bind the first.
//!
//! Invariant: `Opened` means that every live worker of the authority serves the circuit, and at least one does.

use entities::circuit::CircuitSpec;
use entities::frontend::FrontendRequest;
use entities::ids::{CircuitId, Port};
use entities::worker::RefusalCode;

use super::view::CircuitView;
use super::{CircuitError, Circuits, Reached};
use crate::placement;
use crate::store::{CloseTarget, MoveOutcome, NewCircuit, OpenOutcome, SlotRefusal, StoredCircuit};

/// How many ports are tried when something else holds them on a worker.
const MAX_PORTS_TRIED: usize = 5;

/// How opening ended.
#[derive(Debug)]
pub enum OpenResult {
    /// New, and served.
    Opened(CircuitView),
    /// It was open with the same content, and is served.
    Existed(CircuitView),
    /// Stored, but not yet served everywhere.
    Pending(CircuitView),
}

// === impl Circuits ===

impl Circuits {
    /// Opens a circuit, or answers with the one that is open under its key.
    pub async fn open(&self, spec: CircuitSpec) -> Result<OpenResult, CircuitError> {
        let key = spec.key();
        if let Some(existing) = self.store.circuit_by_key(&key).await? {
            return self.existing(existing, &spec).await;
        }
        let place = placement::choose(&self.candidates().await?, &spec.frontend)?;
        let new = NewCircuit { spec, place, now_ms: self.clock.now_ms(), rests: self.rests() };
        let opened = match self.store.open_circuit(&new).await? {
            OpenOutcome::Opened(opened) => opened,
            OpenOutcome::Exists(existing) => return self.existing(existing, &new.spec).await,
            OpenOutcome::Refused(refusal) => return Err(refusal.into()),
        };
        let (served, reached) = self.serve_somewhere(opened, &new).await?;
        tracing::info!(%key, authority = %served.row.authority, generation = %served.row.generation(),
            is_served = reached.is_served(), "circuit opened");
        self.metrics.circuits_opened_total.inc();
        let fresh = self.store.circuit_by_key(&key).await?.unwrap_or(served);
        let view = self.view(&fresh, Some(&reached)).await?;
        Ok(if reached.is_served() { OpenResult::Opened(view) } else { OpenResult::Pending(view) })
    }

    async fn existing(&self, existing: StoredCircuit, spec: &CircuitSpec) -> Result<OpenResult, CircuitError> {
        if existing.row.circuit_spec().map_err(crate::store::StoreError::from)? != *spec {
            return Err(CircuitError::OtherContent(spec.key()));
        }
        let reached = self.serve(&existing, self.timing.apply_timeout).await?;
        let fresh = self.store.circuit_by_key(&spec.key()).await?.unwrap_or(existing);
        let view = self.view(&fresh, Some(&reached)).await?;
        Ok(if reached.is_served() { OpenResult::Existed(view) } else { OpenResult::Pending(view) })
    }

    /// Serves a new circuit, on another port if a worker cannot bind the one that it got.
    async fn serve_somewhere(
        &self,
        opened: StoredCircuit,
        new: &NewCircuit,
    ) -> Result<(StoredCircuit, Reached), CircuitError> {
        let mut current = opened;
        for _ in 0..MAX_PORTS_TRIED {
            let served = self.serve(&current, self.timing.apply_timeout).await;
            let reached = match served {
                Ok(reached) => reached,
                Err(error @ CircuitError::TooLarge(_)) => {
                    self.take_back(&new.spec).await?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            };
            let Some((worker, code)) = reached.applied.refused.clone() else { return Ok((current, reached)) };
            let port = current.row.port.and_then(|number| Port::try_from(u16::try_from(number).ok()?).ok());
            let Some(port) = port else { return Ok((current, reached)) };
            tracing::warn!(key = %current.row.key, %worker, %port, code = ?code, "worker could not bind the port");
            self.metrics.ports_refused_total.inc();
            let is_fixed = matches!(new.spec.frontend, FrontendRequest::Port { port: Some(_) });
            if is_fixed {
                self.take_back(&new.spec).await?;
                return Err(SlotRefusal::PortBad.into());
            }
            let id = CircuitId(current.row.id);
            match self.store.move_port(new, id, port, refusal_word(code)).await? {
                MoveOutcome::Moved(moved) => current = *moved,
                MoveOutcome::NoFreePort => {
                    self.take_back(&new.spec).await?;
                    return Err(SlotRefusal::NoFreePort.into());
                }
                MoveOutcome::NotFound => return Err(CircuitError::NotFound),
            }
        }
        self.take_back(&new.spec).await?;
        Err(CircuitError::PortsRefused(MAX_PORTS_TRIED))
    }

    /// Closes what could not be opened, so that the caller who read an error left nothing behind.
    async fn take_back(&self, spec: &CircuitSpec) -> Result<(), CircuitError> {
        self.close(CloseTarget::Key(spec.key())).await.map(|_| ())
    }
}

fn refusal_word(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::PortInUse => "port_in_use",
        RefusalCode::PortNotAllowed => "port_not_allowed",
        RefusalCode::PortFailed => "port_failed",
        RefusalCode::OutOfDescriptors => "out_of_descriptors",
        RefusalCode::SlotTaken => "slot_taken",
        RefusalCode::Other => "other",
    }
}
