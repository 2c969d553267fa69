//! Keeps a client with the target that served it first, by a cookie (RFC 6265).
//!
//! Invariant: the cookie names a target by a digest that tells nobody where it is, every edge makes the same one, and it stays
//! the same whatever becomes of the other targets.

use std::fmt::Write as _;

use entities::authority::Scheme;
use entities::ids::CircuitId;
use entities::target::Target;
use http::HeaderValue;
use openssl::sha::Sha256;

/// The cookie of one circuit, for each of its targets.
pub(crate) struct Stickiness {
    /// Browsers share the cookies of a host between its ports, so each circuit has a name of its own.
    name: String,
    /// The cookie's value for each target.
    values: Box<[String]>,
}

// === impl Stickiness ===

impl Stickiness {
    /// The cookies of a circuit with these targets.
    pub(super) fn new<'a>(circuit: CircuitId, targets: impl Iterator<Item = &'a Target>) -> Self {
        let name = format!("appproxy-target-{}", digest(circuit, "", 4));
        Self { name, values: targets.map(|target| digest(circuit, &target.to_string(), 12)).collect() }
    }

    /// The target that the cookies of a request name.
    pub(crate) fn find<'a>(&self, cookies: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
        let mut pairs = cookies.flat_map(|field| field.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
        let value = pairs.find_map(|pair| pair.strip_prefix(self.name.as_bytes())?.strip_prefix(b"="))?;
        self.values.iter().position(|known| known.as_bytes() == value)
    }

    /// The value of `Set-Cookie` that keeps a client, who came by `scheme`, with a target.
    pub(crate) fn field(&self, index: usize, scheme: Scheme) -> Option<HeaderValue> {
        let (name, value) = (&self.name, self.values.get(index)?);
        let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
        // Hexadecimal digits and letters: always a field value.
        HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
    }
}

/// The first bytes of a digest, in hexadecimal digits.
fn digest(circuit: CircuitId, target: &str, bytes: usize) -> String {
    let mut sha = Sha256::new();
    sha.update(circuit.0.as_bytes());
    sha.update(target.as_bytes());
    let mut text = String::with_capacity(2 * bytes);
    for byte in sha.finish().iter().take(bytes) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(ports: &[u16]) -> Vec<Target> {
        let target = |port: &u16| Target {
            host: "10.0.0.1".parse().expect("valid"),
            port: (*port).try_into().expect("valid"),
            weight: 1,
        };
        ports.iter().map(target).collect()
    }

    #[test]
    fn a_cookie_finds_its_target_wherever_it_stands() {
        let circuit = CircuitId::random();
        let before = Stickiness::new(circuit, targets(&[1, 2, 3]).iter());
        let field = before.field(1, Scheme::Http).expect("there is one").to_str().expect("text").to_owned();
        assert!(!field.contains("10.0.0.1") && !field.contains("Secure"), "{field}");
        let cookie = field.split(';').next().expect("a pair");
        let jar = format!("a=b; {cookie}; appproxy-target-00000000=1");
        let find = |stickiness: &Stickiness| stickiness.find([b"x=y".as_slice(), jar.as_bytes()].into_iter());
        assert_eq!(find(&before), Some(1));
        assert_eq!(find(&Stickiness::new(circuit, targets(&[3, 4, 5, 2]).iter())), Some(3));
        assert_eq!(find(&Stickiness::new(circuit, targets(&[1, 3]).iter())), None);
        assert_eq!(find(&Stickiness::new(CircuitId::random(), targets(&[1, 2, 3]).iter())), None);
    }

    #[test]
    fn over_tls_a_cookie_stays_there() {
        let stickiness = Stickiness::new(CircuitId::random(), targets(&[1]).iter());
        assert!(
            stickiness.field(0, Scheme::Https).expect("there is one").to_str().expect("text").ends_with("; Secure")
        );
    }
}
