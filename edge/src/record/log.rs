//! The sink that writes the log: a line for each refusal that somebody may want to see, and one for each record at level
//! debug.
//!
//! Invariant: a client that provokes refusals cannot fill a disk: as many lines a second for each reason as
//! [`program::sample`] grants, the next one with the number of those left out.

use program::sample::Samples;

use super::{Record, Sink};
use crate::refusal::{Reason, Refused};
use crate::words::Words as _;

/// How many reasons there are.
const REASONS: usize = <Reason as crate::words::Words>::ALL.len();

/// Writes records into the log.
#[derive(Default)]
pub(crate) struct Log {
    samples: Samples<REASONS>,
}

// === impl Log ===

impl Sink for Log {
    fn take(&self, record: &Record) {
        if let Some(refused) = &record.refused {
            self.note_refusal(record, refused);
        }
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        tracing::debug!(
            request = %record.id,
            protocol = record.protocol.as_str(),
            entrance = %record.entrance,
            method = record.method.as_ref().map(tracing::field::display),
            host = record.host.as_ref().and_then(|host| host.to_str().ok()),
            path = record.path.as_ref().map(tracing::field::display),
            key = record.circuit.as_ref().map(|key| key.as_str()),
            target = record.target.as_ref().map(tracing::field::display),
            client = %record.client,
            status = record.status,
            to_target = record.bytes_to_target,
            to_client = record.bytes_to_client,
            retries = record.retries,
            ms = record.times.took().as_millis() as u64,
            ended_by = record.ended_by.as_str(),
            fault = record.fault.map(|fault| fault.as_str()),
            error = record.error.as_deref(),
            "{}",
            if record.protocol.is_relayed() { "a relay ended" } else { "request" }
        );
    }
}

impl Log {
    fn note_refusal(&self, record: &Record, refused: &Refused) {
        let Some(reason) = refused.reason else { return };
        let Some(left_out) = self.samples.take_line(reason.index()) else { return };
        tracing::info!(
            reason = reason.as_str(),
            request = %record.id,
            client = %record.client,
            key = record.circuit.as_ref().map(|key| key.as_str()),
            detail = %refused.detail,
            left_out,
            fault = refused.fault().as_str(),
            "turned away"
        );
    }
}
