//! How many keys a page of a list asks for.
//!
//! etcd counts what is left of the whole range for every page, so the work that a list makes grows with the square of
//! its pages: 50,000 keys in pages of 200 keep it busy for four seconds. Pages therefore grow to what fits.
//!
//! Invariant: a page is expected to be a quarter of what the client decodes; where the next values are larger than
//! that and the page is refused, every later page of the list has as many keys as fit whatever their size.

use etcd_rs::KeyValue;

/// Keys that fit into one answer whatever their size: with values of 16 KiB that is 3.2 MiB, below the 4 MiB that
/// etcd-rs decodes.
const SAFE_KEYS: usize = 200;

/// Small values are no reason for pages without end.
const MAX_KEYS: usize = 4_000;

/// What a page is to come to if its values are like those of the page before.
const WANTED_BYTES: usize = 1024 * 1024;

/// Revisions, version, lease and the lengths of the fields.
const OVERHEAD_BYTES: usize = 48;

/// The size of the next page.
#[derive(Debug)]
pub(super) struct PageSize {
    keys: usize,
    most_keys: usize,
}

// === impl PageSize ===

impl PageSize {
    /// Of a list that has not begun.
    pub(super) fn new() -> Self {
        Self { keys: SAFE_KEYS, most_keys: MAX_KEYS }
    }

    /// How many keys to ask for.
    pub(super) fn keys(&self) -> u64 {
        self.keys as u64
    }

    /// A page came.
    pub(super) fn note(&mut self, page: &[KeyValue]) {
        let bytes: usize = page.iter().map(|kv| kv.key.len() + kv.value.len() + OVERHEAD_BYTES).sum();
        let fitting = page.len().saturating_mul(WANTED_BYTES).checked_div(bytes).unwrap_or(SAFE_KEYS);
        self.keys = fitting.clamp(SAFE_KEYS, self.most_keys);
    }

    /// A page was refused; whether a smaller one may do.
    pub(super) fn shrink(&mut self) -> bool {
        let was_larger = self.keys > SAFE_KEYS;
        (self.keys, self.most_keys) = (SAFE_KEYS, SAFE_KEYS);
        was_larger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: usize, value_bytes: usize) -> Vec<KeyValue> {
        let kv = KeyValue { key: vec![0; 52], value: vec![0; value_bytes], ..KeyValue::default() };
        vec![kv; keys]
    }

    #[test]
    fn pages_grow_to_a_mebibyte_and_never_below_what_always_fits() {
        let mut size = PageSize::new();
        assert_eq!(size.keys(), 200);
        size.note(&page(200, 400));
        assert_eq!(size.keys(), 1024 * 1024 / 500);
        size.note(&page(2_000, 0));
        assert_eq!(size.keys(), 4_000);
        size.note(&page(200, 16 * 1024));
        assert_eq!(size.keys(), 200);
        size.note(&[]);
        assert_eq!(size.keys(), 200);
    }

    #[test]
    fn a_list_with_a_page_that_was_refused_takes_no_second_chance() {
        let mut size = PageSize::new();
        assert!(!size.shrink(), "nothing smaller would help");
        let mut size = PageSize { keys: 2_000, ..PageSize::new() };
        size.note(&page(200, 400));
        assert!(size.shrink());
        size.note(&page(200, 10));
        assert_eq!(size.keys(), 200);
    }
}
