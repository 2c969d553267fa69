//! Whether a list of the registry may be believed: a pure core.
//!
//! Invariant: what is followed changes only to a complete registry of the same installation that has not gone back.

use entities::ids::{InstallationId, Revision};
use entities::registry::layout::Meta;

use crate::position::Followed;

/// Why a list changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    /// It is empty, or the coordinator is still filling it.
    #[error("the registry is not complete")]
    Incomplete,
    /// It belongs to somebody else.
    #[error(
        "the registry belongs to installation {found}, this edge to {followed}; \
         if the change is wanted, stop the edge and remove its circuits.snapshot"
    )]
    OtherInstallation {
        /// Ours.
        followed: InstallationId,
        /// The one in `meta`.
        found: InstallationId,
    },
    /// It knows less than it did, so it was restored from an old copy. The coordinator begins a new epoch then.
    #[error("the registry went back from revision {followed} to {found}")]
    Restored {
        /// Ours.
        followed: Revision,
        /// Where the registry is.
        found: Revision,
    },
}

/// Whether a list with this `meta` at `revision` is of the registry that is followed. An edge that follows nothing yet
/// takes the first complete one.
pub(crate) fn judge(followed: Option<Followed>, meta: Option<Meta>, revision: Revision) -> Result<Meta, Distrust> {
    let meta = meta.ok_or(Distrust::Incomplete)?;
    if let Some(followed) = followed {
        // Before completeness: somebody else's registry is no better for being half full.
        if meta.installation_id != followed.installation_id {
            let (followed, found) = (followed.installation_id, meta.installation_id);
            return Err(Distrust::OtherInstallation { followed, found });
        }
        if meta.epoch == followed.epoch && revision < followed.revision {
            return Err(Distrust::Restored { followed: followed.revision, found: revision });
        }
    }
    if meta.complete { Ok(meta) } else { Err(Distrust::Incomplete) }
}

#[cfg(test)]
mod tests {
    use entities::ids::Epoch;
    use uuid::Uuid;

    use super::*;

    fn meta(installation: u128, epoch: u128, complete: bool) -> Meta {
        Meta {
            installation_id: InstallationId(Uuid::from_u128(installation)),
            epoch: Epoch(Uuid::from_u128(epoch)),
            complete,
        }
    }

    fn followed() -> Followed {
        let Meta { installation_id, epoch, .. } = meta(1, 1, true);
        Followed { installation_id, epoch, revision: Revision(10) }
    }

    #[test]
    fn the_first_complete_registry_is_taken() {
        assert_eq!(judge(None, None, Revision(9)), Err(Distrust::Incomplete));
        assert_eq!(judge(None, Some(meta(7, 7, false)), Revision(9)), Err(Distrust::Incomplete));
        assert_eq!(judge(None, Some(meta(7, 7, true)), Revision(9)), Ok(meta(7, 7, true)));
    }

    #[test]
    fn an_epoch_does_not_go_back_and_a_new_one_starts_anywhere() {
        let judge = |meta, revision| judge(Some(followed()), Some(meta), Revision(revision));
        assert!(judge(meta(1, 1, true), 10).is_ok());
        assert!(judge(meta(1, 1, true), 11).is_ok());
        let restored = Distrust::Restored { followed: Revision(10), found: Revision(9) };
        assert_eq!(judge(meta(1, 1, true), 9), Err(restored));
        assert_eq!(judge(meta(1, 1, false), 9), Err(restored));
        assert!(judge(meta(1, 2, true), 1).is_ok());
    }

    #[test]
    fn an_empty_an_incomplete_and_a_strange_registry_are_not_believed() {
        let judge = |meta| judge(Some(followed()), meta, Revision(99));
        assert_eq!(judge(None), Err(Distrust::Incomplete));
        assert_eq!(judge(Some(meta(1, 2, false))), Err(Distrust::Incomplete));
        for complete in [true, false] {
            let error = judge(Some(meta(2, 1, complete))).expect_err("it is somebody else's");
            let text = error.to_string();
            for part in [&meta(1, 1, true), &meta(2, 1, true)] {
                assert!(text.contains(&part.installation_id.to_string()), "{text}");
            }
            assert!(text.contains("circuits.snapshot"), "{text}");
        }
    }
}
