//! The ports of this machine on which circuits listen.
//!
//! Invariant: a port is in the set while its socket listens, so that no circuit leads to another one.

use std::sync::atomic::{AtomicU64, Ordering};

use entities::ids::Port;

/// A bit for each port there is.
const WORDS: usize = (u16::MAX as usize + 1) / u64::BITS as usize;

/// A set of ports that is read without a lock.
pub(crate) struct OwnPorts(Box<[AtomicU64]>);

// === impl OwnPorts ===

impl OwnPorts {
    /// A circuit listens there from now on.
    pub(crate) fn add(&self, port: Port) {
        let (word, bit) = place(port.number());
        if let Some(word) = self.0.get(word) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// No circuit listens there any more.
    pub(crate) fn remove(&self, port: Port) {
        let (word, bit) = place(port.number());
        if let Some(word) = self.0.get(word) {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Whether a circuit listens there.
    pub(crate) fn contains(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.0.get(word).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }
}

impl Default for OwnPorts {
    fn default() -> Self {
        Self((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port) / u64::BITS as usize, 1 << (u32::from(port) % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_there_from_when_it_is_added_until_it_is_removed() {
        let ports = OwnPorts::default();
        let port = |number: u16| Port::try_from(number).expect("not 0");
        for number in [1, 63, 64, 30_000, u16::MAX] {
            ports.add(port(number));
            assert!(ports.contains(number) && !ports.contains(number - 1), "{number}");
            ports.remove(port(number));
            assert!(!ports.contains(number), "{number}");
        }
    }
}
