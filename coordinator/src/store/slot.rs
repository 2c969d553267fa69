//! Takes the slot that a circuit gets, inside of the transaction that stores it.
//!
//! Invariant: what is taken, rests or is known to be bad is given to nobody; the unique indexes have the last word.

use entities::frontend::{Frontend, FrontendRequest};

use super::circuits::{NewCircuit, SlotRefusal};
use super::rests::{self, HostState, PortState};
use super::{StoreError, WriteTransaction};
use crate::placement::Place;
use crate::slots;

/// The columns port, subdomain and host of a slot.
pub(super) fn slot_columns(frontend: &Frontend) -> (Option<i32>, Option<String>, Option<String>) {
    match frontend {
        Frontend::Port { port } => (Some(i32::from(port.number())), None, None),
        Frontend::Subdomain { subdomain, host } => (None, Some(subdomain.to_string()), Some(host.to_string())),
    }
}

/// Finds the slot that a circuit gets. The unique indexes have the last word when it is inserted.
pub(super) async fn take_slot(
    write: &WriteTransaction,
    new: &NewCircuit,
) -> Result<Result<Frontend, SlotRefusal>, StoreError> {
    match &new.place {
        Place::Port(authority, part) => {
            let requested = match &new.spec.frontend {
                FrontendRequest::Port { port } => *port,
                FrontendRequest::Subdomain { .. } => None,
            };
            let connection = write.connection();
            let name = &authority.name;
            if let Some(port) = requested {
                let states = rests::port_states(connection, name, &[port], &new.rests, new.now_ms).await?;
                return Ok(match states.first() {
                    Some((_, PortState::Taken)) => Err(SlotRefusal::PortTaken),
                    Some((_, PortState::Resting)) => Err(SlotRefusal::PortResting),
                    Some((_, PortState::Bad)) => Err(SlotRefusal::PortBad),
                    Some((_, PortState::Free)) | None => Ok(Frontend::Port { port }),
                });
            }
            let drawn = slots::draw_ports(part.ports, &mut rand::rng());
            let states = rests::port_states(connection, name, &drawn, &new.rests, new.now_ms).await?;
            if let Some((port, _)) = states.iter().find(|(_, state)| *state == PortState::Free) {
                return Ok(Ok(Frontend::Port { port: *port }));
            }
            let blocked = rests::blocked_ports(connection, name, &new.rests, new.now_ms).await?;
            let found = slots::find_free(part.ports, |port| blocked.contains(&port), &mut rand::rng());
            Ok(found.map(|port| Frontend::Port { port }).ok_or(SlotRefusal::NoFreePort))
        }
        Place::Subdomain(_, part) => {
            let requested = match &new.spec.frontend {
                FrontendRequest::Subdomain { subdomain } => subdomain.clone(),
                FrontendRequest::Port { .. } => None,
            };
            let generated = || slots::generate_subdomain(&new.spec.service, &mut rand::rng());
            let Ok(subdomain) = requested.map_or_else(generated, Ok) else {
                return Ok(Err(SlotRefusal::HostTooLong));
            };
            let Ok(host) = subdomain.under(&part.domain) else { return Ok(Err(SlotRefusal::HostTooLong)) };
            let tenant = new.spec.tenant().to_string();
            let state = rests::host_state(write.connection(), &host, &tenant, &new.rests, new.now_ms).await?;
            Ok(match state {
                HostState::Free => Ok(Frontend::Subdomain { subdomain, host }),
                HostState::Taken => Err(SlotRefusal::HostTaken),
                HostState::Resting => Err(SlotRefusal::HostResting),
            })
        }
    }
}
