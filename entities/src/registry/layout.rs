//! Where things lie in the registry and how they are wrapped.
//!
//! Invariant: this is the only file that builds or parses a registry key or an envelope. Unknown fields of an
//! envelope are ignored; an unknown `schema` is an error of that key alone.

use serde::{Deserialize, Serialize};

use crate::circuit::{Circuit, Versioned};
use crate::ids::{CircuitKey, Epoch, Generation, InstallationId, WorkerId};
use crate::limits::MAX_REGISTRY_VALUE_BYTES;
use crate::token::{KeyId, PublicKey};

/// The schema that this program writes.
pub const SCHEMA: u32 = 1;

/// The prefix that is used unless the configuration says otherwise.
pub const DEFAULT_PREFIX: &str = "/appproxy";

/// Builds and parses keys under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    prefix: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX)
    }
}

impl Layout {
    /// Keys under `prefix`; a trailing slash does not matter.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// Everything of ours: what an edge lists and watches.
    pub fn root(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// All circuits.
    pub fn circuits(&self) -> String {
        format!("{}/circuits/", self.prefix)
    }

    /// One circuit.
    pub fn circuit(&self, key: &CircuitKey) -> String {
        format!("{}/circuits/{key}", self.prefix)
    }

    /// One worker's own key.
    pub fn worker(&self, id: &WorkerId) -> String {
        format!("{}/workers/{id}", self.prefix)
    }

    /// All public keys of tickets and bearer tokens.
    pub fn keys(&self) -> String {
        format!("{}/keys/", self.prefix)
    }

    /// One public key.
    pub fn key(&self, id: &KeyId) -> String {
        format!("{}/keys/{id}", self.prefix)
    }

    /// Whose registry it is, and whether it is complete.
    pub fn meta(&self) -> String {
        format!("{}/meta", self.prefix)
    }

    /// What a key is about.
    pub fn parse(&self, key: &str) -> Place {
        let Some(rest) = key.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/')) else {
            return Place::Other;
        };
        if rest == "meta" {
            return Place::Meta;
        }
        if let Some(name) = rest.strip_prefix("circuits/") {
            return name.parse().map_or(Place::Other, Place::Circuit);
        }
        rest.strip_prefix("keys/").and_then(|id| id.parse().ok()).map_or(Place::Other, Place::Key)
    }
}

/// What a registry key is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A circuit.
    Circuit(CircuitKey),
    /// A public key of tickets and bearer tokens.
    Key(KeyId),
    /// Installation and epoch.
    Meta,
    /// Nothing that a table is made of.
    Other,
}

/// Why a value could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON, or not of the shape.
    #[error("the value does not parse: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a program of another time.
    #[error("schema {0} is unknown")]
    UnknownSchema(u32),
    /// The value would not fit into the registry.
    #[error("the value has {0} bytes, more than {MAX_REGISTRY_VALUE_BYTES}")]
    TooLarge(usize),
    /// Neither open nor closed.
    #[error("the envelope holds no circuit")]
    Empty,
    /// The key is none, or has another name.
    #[error("the value is not the public key that its name says")]
    NotTheKey,
}

/// What the registry says about a circuit key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CircuitState {
    /// It is to be served like this.
    Open(Box<Versioned>),
    /// It was closed by this generation.
    Closed {
        /// The generation that closed it.
        generation: Generation,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<C> {
    schema: u32,
    generation: Generation,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    circuit: Option<C>,
    #[serde(default, skip_serializing_if = "is_false")]
    closed: bool,
}

fn none<C>() -> Option<C> {
    None
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl CircuitState {
    /// The generation that wrote this.
    pub fn generation(&self) -> Generation {
        match self {
            Self::Open(versioned) => versioned.generation,
            Self::Closed { generation } => *generation,
        }
    }

    /// The value to write.
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        let envelope = match self {
            Self::Open(versioned) => Envelope {
                schema: SCHEMA,
                generation: versioned.generation,
                circuit: Some(&versioned.circuit),
                closed: false,
            },
            Self::Closed { generation } => {
                Envelope { schema: SCHEMA, generation: *generation, circuit: None, closed: true }
            }
        };
        let value = serde_json::to_vec(&envelope)?;
        if value.len() > MAX_REGISTRY_VALUE_BYTES {
            return Err(EnvelopeError::TooLarge(value.len()));
        }
        Ok(value)
    }

    /// The value as it was read.
    pub fn decode(value: &[u8]) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct SchemaOnly {
            schema: u32,
        }
        let SchemaOnly { schema } = serde_json::from_slice(value)?;
        if schema != SCHEMA {
            return Err(EnvelopeError::UnknownSchema(schema));
        }
        let envelope: Envelope<Circuit> = serde_json::from_slice(value)?;
        match envelope.circuit {
            _ if envelope.closed => Ok(Self::Closed { generation: envelope.generation }),
            Some(circuit) => Ok(Self::Open(Box::new(Versioned { generation: envelope.generation, circuit }))),
            None => Err(EnvelopeError::Empty),
        }
    }
}

/// What the registry says about a public key.
#[derive(Debug, Serialize, Deserialize)]
struct PublicKeyEnvelope {
    schema: u32,
    algorithm: String,
    public_key: String,
}

/// The only algorithm that tickets and bearer tokens are signed with.
const KEY_ALGORITHM: &str = "Ed25519";

/// The value of a public key.
pub fn encode_public_key(key: &PublicKey) -> Result<Vec<u8>, EnvelopeError> {
    let envelope =
        PublicKeyEnvelope { schema: SCHEMA, algorithm: KEY_ALGORITHM.to_owned(), public_key: key.to_string() };
    Ok(serde_json::to_vec(&envelope)?)
}

/// The public key called `id`, as it was read.
pub fn decode_public_key(id: &KeyId, value: &[u8]) -> Result<PublicKey, EnvelopeError> {
    let envelope: PublicKeyEnvelope = serde_json::from_slice(value)?;
    if envelope.schema != SCHEMA {
        return Err(EnvelopeError::UnknownSchema(envelope.schema));
    }
    let key = envelope.public_key.parse::<PublicKey>().ok();
    key.filter(|key| envelope.algorithm == KEY_ALGORITHM && key.id() == *id).ok_or(EnvelopeError::NotTheKey)
}

/// Whose registry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The installation that filled it.
    pub installation_id: InstallationId,
    /// The life of the registry.
    pub epoch: Epoch,
    /// Whether every circuit of the store has been published since the epoch began.
    pub complete: bool,
}

impl Meta {
    /// The value to write.
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The value as it was read.
    pub fn decode(value: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(serde_json::from_slice(value)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::Access;
    use crate::balance::LoadBalancing;
    use crate::circuit::{Backend, Protocol, Traffic};
    use crate::frontend::Frontend;
    use crate::ids::{CircuitId, Port};
    use crate::token::SigningKey;

    fn circuit() -> Circuit {
        Circuit {
            id: CircuitId(uuid::Uuid::from_u128(1)),
            key: "s1:jupyter".parse().expect("valid"),
            authority: "main".parse().expect("valid"),
            frontend: Frontend::Port { port: Port::try_from(30_000).expect("valid") },
            protocol: Protocol::Http,
            backend: Backend::Http,
            targets: Vec::new(),
            load_balancing: LoadBalancing::default(),
            access: Access::for_everybody(),
            access_generation: Generation(2),
            traffic: Traffic::default(),
        }
    }

    #[test]
    fn keys_parse_back() {
        let layout = Layout::new("/appproxy/");
        let key: CircuitKey = "s1:jupyter".parse().expect("valid");
        assert_eq!(layout.circuit(&key), "/appproxy/circuits/s1:jupyter");
        assert_eq!(layout.parse("/appproxy/circuits/s1:jupyter"), Place::Circuit(key));
        assert_eq!(layout.parse("/appproxy/meta"), Place::Meta);
        for other in ["/appproxy/circuits/no key", "/appproxyx/meta", "/other", "/appproxy/workers/w1"] {
            assert_eq!(layout.parse(other), Place::Other, "{other}");
        }
    }

    /// The layout is a contract with programs of other versions: this text changes only with `SCHEMA`.
    #[test]
    fn the_envelope_is_as_documented() {
        let open = CircuitState::Open(Box::new(Versioned { generation: Generation(3), circuit: circuit() }));
        let text: serde_json::Value = serde_json::from_slice(&open.encode().expect("fits")).expect("JSON");
        assert_eq!(
            text,
            json!({"schema": 1, "generation": 3, "circuit": {
                "id": "00000000-0000-0000-0000-000000000001", "key": "s1:jupyter", "authority": "main",
                "frontend": {"mode": "port", "port": 30000}, "protocol": "http", "backend": "http", "targets": [],
                "load_balancing": {"strategy": "round_robin"}, "access": {"public": true},
                "access_generation": 2}})
        );
        let closed = CircuitState::Closed { generation: Generation(4) };
        let text: serde_json::Value = serde_json::from_slice(&closed.encode().expect("fits")).expect("JSON");
        assert_eq!(text, json!({"schema": 1, "generation": 4, "closed": true}));
        assert_eq!(CircuitState::decode(&open.encode().expect("fits")).expect("parses"), open);
        assert_eq!(CircuitState::decode(&closed.encode().expect("fits")).expect("parses"), closed);
    }

    #[test]
    fn a_public_key_is_as_documented_and_has_its_own_name() {
        let key = SigningKey::from_seed([7; 32]).public();
        let layout = Layout::default();
        assert_eq!(layout.parse(&layout.key(&key.id())), Place::Key(key.id()));
        assert_eq!(layout.parse("/appproxy/keys/not-an-id"), Place::Other);
        let value = encode_public_key(&key).expect("fits");
        let text: serde_json::Value = serde_json::from_slice(&value).expect("JSON");
        assert_eq!(text, json!({"schema": 1, "algorithm": "Ed25519", "public_key": key.to_string()}));
        assert_eq!(decode_public_key(&key.id(), &value).expect("parses"), key);
        let other = SigningKey::from_seed([8; 32]).public();
        assert!(matches!(decode_public_key(&other.id(), &value), Err(EnvelopeError::NotTheKey)));
        let newer = json!({"schema": 2, "algorithm": "Ed25519", "public_key": key.to_string()}).to_string();
        assert!(matches!(decode_public_key(&key.id(), newer.as_bytes()), Err(EnvelopeError::UnknownSchema(2))));
    }

    #[test]
    fn unknown_fields_pass_and_unknown_schemas_do_not() {
        let newer = br#"{"schema":1,"generation":4,"closed":true,"by":"someone"}"#;
        assert!(CircuitState::decode(newer).is_ok());
        let other = br#"{"schema":2,"generation":4,"anything":[]}"#;
        assert!(matches!(CircuitState::decode(other), Err(EnvelopeError::UnknownSchema(2))));
        for broken in [&b"{"[..], b"[]", b"{\"schema\":1}", b"{\"schema\":1,\"generation\":1}"] {
            assert!(CircuitState::decode(broken).is_err());
        }
    }
}
