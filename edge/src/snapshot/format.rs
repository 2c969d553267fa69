//! What the snapshot is made of: a header, and records of `length u32 LE, CRC-32 of the payload u32 LE, payload`.
//!
//! Payloads are JSON: the envelope of a circuit as the registry has it, `{"gone": key}`,
//! `{"keys": [public key]}` or `{"position": {…}}`.
//!
//! Invariant: whatever bytes are read, no more than one payload of the largest size is allocated for them.

use std::io::{self, Read};

use entities::ids::{CircuitKey, Epoch, InstallationId, Revision};
use entities::limits::MAX_REGISTRY_VALUE_BYTES;
use entities::token::PublicKey;
use serde::{Deserialize, Serialize};

/// Eight letters and the version of the format.
pub(super) const HEADER: [u8; 12] = *b"APCIRCTS\x01\0\0\0";

/// Length and checksum.
pub(super) const HEAD_BYTES: usize = 8;

/// A circuit as the registry may hold it; the other records are far smaller.
const MAX_PAYLOAD_BYTES: usize = MAX_REGISTRY_VALUE_BYTES;

/// Where the edge stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedPosition {
    /// Whose registry it was.
    pub(crate) installation_id: InstallationId,
    /// Which life of it.
    pub(crate) epoch: Epoch,
    /// What was applied.
    pub(crate) revision: Revision,
    /// When that was last known to be right.
    pub(crate) confirmed_at_ms: i64,
}

/// What a payload says, as far as replaying needs it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The payload is this circuit.
    Put(CircuitKey),
    /// The circuit has ended.
    Gone(CircuitKey),
    /// These public keys are accepted.
    Keys(Vec<PublicKey>),
    /// The edge stood here.
    Position(SavedPosition),
    /// Written by a program of another time.
    Unknown,
}

/// One step of reading.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole record; its payload is in the buffer.
    Record,
    /// The file ends here, at the end of a record.
    End,
    /// What follows is not a whole record.
    Torn,
}

#[derive(Deserialize)]
struct Glance {
    gone: Option<CircuitKey>,
    keys: Option<Vec<String>>,
    position: Option<SavedPosition>,
    circuit: Option<Keyed>,
}

#[derive(Deserialize)]
struct Keyed {
    key: CircuitKey,
}

// === impl Record ===

impl Record {
    /// What `payload` says.
    pub(super) fn of(payload: &[u8]) -> Self {
        match serde_json::from_slice(payload) {
            Ok(Glance { circuit: Some(circuit), .. }) => Self::Put(circuit.key),
            Ok(Glance { gone: Some(key), .. }) => Self::Gone(key),
            // One that is no key any more opens nothing.
            Ok(Glance { keys: Some(keys), .. }) => Self::Keys(keys.iter().filter_map(|key| key.parse().ok()).collect()),
            Ok(Glance { position: Some(position), .. }) => Self::Position(position),
            _ => Self::Unknown,
        }
    }
}

/// The payload that ends a circuit.
pub(super) fn gone(key: &CircuitKey) -> Vec<u8> {
    serde_json::json!({ "gone": key }).to_string().into_bytes()
}

/// The payload of the public keys.
pub(super) fn keys(keys: &[PublicKey]) -> Vec<u8> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    serde_json::json!({ "keys": keys }).to_string().into_bytes()
}

/// The payload of a position.
pub(super) fn position(position: &SavedPosition) -> Vec<u8> {
    serde_json::json!({ "position": position }).to_string().into_bytes()
}

/// Appends a record to `buffer`; the length of its payload comes back.
pub(super) fn push(buffer: &mut Vec<u8>, payload: &[u8]) -> io::Result<u32> {
    let is_too_large = || io::Error::new(io::ErrorKind::InvalidInput, "a record is too large");
    let length = u32::try_from(payload.len()).map_err(|_| is_too_large())?;
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(is_too_large());
    }
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    buffer.extend_from_slice(payload);
    Ok(length)
}

/// Reads the next record's payload into `payload`.
pub(super) fn read(file: &mut impl Read, payload: &mut Vec<u8>) -> io::Result<Step> {
    payload.clear();
    let Some(length) = read_number(file)? else { return Ok(Step::End) };
    let (Ok(length), Ok(Some(crc))) = (length, read_number(file)?.transpose()) else { return Ok(Step::Torn) };
    let length = length as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Ok(Step::Torn);
    }
    file.by_ref().take(length as u64).read_to_end(payload)?;
    let is_whole = payload.len() == length && crc32fast::hash(payload) == crc;
    Ok(if is_whole { Step::Record } else { Step::Torn })
}

/// There are fewer than four bytes.
struct Short;

/// A number, or `None` at the end of the file.
fn read_number(file: &mut impl Read) -> io::Result<Option<Result<u32, Short>>> {
    let mut bytes = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(bytes.try_into().map(u32::from_le_bytes).map_err(|_| Short)))
}
