//! Which port or subdomain a circuit gets, and when a released one may be given again.
//!
//! Invariant: pure. A port is free only if no circuit has it, it does not rest and no worker failed to bind it;
//! generated names carry 50 random bits, so nobody guesses a neighbour's.

use entities::authority::PortRange;
use entities::host::{Subdomain, SubdomainError};
use entities::ids::{Port, ServiceName};
use rand::{Rng, RngExt};

use crate::config::Timing;

/// How many ports are tried at random before the whole range is looked at. With half of the range taken, eight
/// draws miss with a chance of 1 in 256.
pub const RANDOM_DRAWS: usize = 8;

/// Times of release in milliseconds, as the store keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// When it was given back.
    pub released_at_ms: i64,
    /// Whether every worker is known to have let it go.
    pub is_confirmed: bool,
}

/// The rules of rest, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestRules {
    /// A released port.
    pub port_ms: i64,
    /// A released port that some worker may still serve.
    pub unconfirmed_port_ms: i64,
    /// A port that would not bind.
    pub bad_port_ms: i64,
    /// A released subdomain, for others than its last user.
    pub host_ms: i64,
}

impl From<&Timing> for RestRules {
    fn from(timing: &Timing) -> Self {
        let ms = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self {
            port_ms: ms(timing.port_rest),
            unconfirmed_port_ms: ms(timing.max_staleness).max(ms(timing.port_rest)),
            bad_port_ms: ms(timing.bad_port_rest),
            host_ms: ms(timing.host_rest),
        }
    }
}

impl RestRules {
    /// Whether a released port may not be given again at `now_ms`.
    pub fn port_rests(&self, release: Release, now_ms: i64) -> bool {
        let rest_ms = if release.is_confirmed { self.port_ms } else { self.unconfirmed_port_ms };
        now_ms < release.released_at_ms.saturating_add(rest_ms)
    }

    /// Whether a port that would not bind is still passed over.
    pub fn bad_port_rests(&self, reported_at_ms: i64, now_ms: i64) -> bool {
        now_ms < reported_at_ms.saturating_add(self.bad_port_ms)
    }

    /// Whether a subdomain is kept from strangers.
    pub fn host_rests(&self, released_at_ms: i64, now_ms: i64) -> bool {
        now_ms < released_at_ms.saturating_add(self.host_ms)
    }
}

/// Ports to try first: some at random, so that two coordinators seldom meet.
pub fn draw_ports(range: PortRange, rng: &mut impl Rng) -> Vec<Port> {
    let mut drawn: Vec<Port> = (0..RANDOM_DRAWS).map(|_| range.at(rng.random_range(0..range.len()))).collect();
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

/// The first port that is not taken, looked for from a random place on.
pub fn find_free(range: PortRange, is_taken: impl Fn(Port) -> bool, rng: &mut impl Rng) -> Option<Port> {
    let start = rng.random_range(0..range.len());
    (0..range.len()).map(|step| range.at(start + step)).find(|port| !is_taken(*port))
}

/// A name nobody guesses: the service, for people, and ten letters of 5 random bits each.
pub fn generate_subdomain(service: &ServiceName, rng: &mut impl Rng) -> Result<Subdomain, SubdomainError> {
    /// 32 letters that cannot be mistaken for each other (RFC 4648 §6 without 0, 1, 8, 9 in lower case).
    const LETTERS: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
        'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
    ];
    const RANDOM_LETTERS: usize = 10;
    const READABLE_BYTES: usize = 40;
    let mut name: String = service
        .as_str()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
        .take(READABLE_BYTES)
        .collect();
    name.push('-');
    for _ in 0..RANDOM_LETTERS {
        let index = rng.random_range(0..LETTERS.len());
        name.push(LETTERS.get(index).copied().unwrap_or('a'));
    }
    name.parse()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const RULES: RestRules = RestRules { port_ms: 60_000, unconfirmed_port_ms: 86_400_000, bad_port_ms: 1, host_ms: 9 };

    #[test]
    fn a_released_port_rests_and_an_unconfirmed_one_much_longer() {
        let release = |is_confirmed| Release { released_at_ms: 1_000, is_confirmed };
        assert!(RULES.port_rests(release(true), 60_999));
        assert!(!RULES.port_rests(release(true), 61_000));
        assert!(RULES.port_rests(release(false), 61_000));
        assert!(!RULES.port_rests(release(false), 86_401_000));
    }

    proptest! {
        #[test]
        fn a_free_port_is_found_exactly_when_there_is_one(seed: u64, taken in proptest::collection::hash_set(100u16..120, 0..=20)) {
            let range: PortRange = "100-119".parse().expect("valid");
            let mut rng = StdRng::seed_from_u64(seed);
            let found = find_free(range, |port| taken.contains(&port.number()), &mut rng);
            match found {
                Some(port) => prop_assert!(range.contains(port) && !taken.contains(&port.number())),
                None => prop_assert_eq!(taken.len(), 20),
            }
        }

        #[test]
        fn generated_names_are_labels_with_ten_random_letters(seed: u64, service in "[a-z0-9][a-z0-9._-]{0,62}") {
            let service: ServiceName = service.parse().expect("valid");
            let mut rng = StdRng::seed_from_u64(seed);
            let first = generate_subdomain(&service, &mut rng).expect("a label");
            let second = generate_subdomain(&service, &mut rng).expect("a label");
            prop_assert_ne!(&first, &second);
            let random = first.as_str().rsplit('-').next().expect("a part");
            prop_assert_eq!(random.len(), 10);
        }
    }
}
