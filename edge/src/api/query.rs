//! The query of `/v2/sync`.
//!
//! Invariant: no wait is longer than [`MAX_TIMEOUT`].

use std::time::Duration;

use entities::ids::{Epoch, Revision};

/// A longer wait would outlive the coordinator's interest and hold a connection for nothing.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What is waited for, and how long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyncQuery {
    /// The position that must be applied; without one the answer comes at once.
    pub(super) awaited: Option<(Epoch, Revision)>,
    /// How long it may take.
    pub(super) timeout: Duration,
}

// === impl SyncQuery ===

impl SyncQuery {
    /// Reads `epoch=E&revision=R&timeout_ms=T`; parameters that are not known are ignored.
    pub(super) fn parse(query: &str) -> Result<Self, ()> {
        let mut epoch = None;
        let mut revision = None;
        let mut timeout = Duration::ZERO;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "epoch" => epoch = Some(value.parse::<Epoch>().map_err(|_| ())?),
                "revision" => revision = Some(Revision(value.parse().map_err(|_| ())?)),
                "timeout_ms" => timeout = Duration::from_millis(value.parse().map_err(|_| ())?),
                _ => {}
            }
        }
        let awaited = match (epoch, revision) {
            (Some(epoch), Some(revision)) => Some((epoch, revision)),
            (None, None) => None,
            _ => return Err(()),
        };
        Ok(Self { awaited, timeout: timeout.min(MAX_TIMEOUT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_and_revision_go_together_and_the_wait_has_a_limit() {
        assert_eq!(SyncQuery::parse(""), Ok(SyncQuery { awaited: None, timeout: Duration::ZERO }));
        let epoch = Epoch::random();
        let query = SyncQuery::parse(&format!("epoch={epoch}&revision=7&timeout_ms=99999999&later=1"));
        assert_eq!(query, Ok(SyncQuery { awaited: Some((epoch, Revision(7))), timeout: MAX_TIMEOUT }));
        for wrong in ["epoch=x&revision=1", "revision=1", "epoch=x", "timeout_ms=-1", "timeout_ms="] {
            assert_eq!(SyncQuery::parse(wrong), Err(()), "{wrong}");
        }
    }
}
