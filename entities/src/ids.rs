//! Typed names and counters.
//!
//! Invariant: a name that exists has passed its grammar, so it can stand in URLs, registry keys and log lines as it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::MAX_NAME_BYTES;

/// Why a string is not the name that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must match {grammar}")]
pub struct NameError {
    /// What kind of name was expected.
    pub what: &'static str,
    /// The grammar, as a regular expression.
    pub grammar: &'static str,
}

fn is_name(text: &str, is_first: impl Fn(u8) -> bool, is_rest: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes().split_first() {
        Some((first, rest)) => {
            text.len() <= MAX_NAME_BYTES && is_first(*first) && rest.iter().all(|byte| is_rest(*byte))
        }
        None => false,
    }
}

fn is_lower_name(text: &str) -> bool {
    is_name(
        text,
        |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(),
        |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte),
    )
}

fn is_mixed_name(text: &str) -> bool {
    is_name(text, |byte| byte.is_ascii_alphanumeric(), |byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

const LOWER_GRAMMAR: &str = "[a-z0-9][a-z0-9._-]{0,62}";
const MIXED_GRAMMAR: &str = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}";

macro_rules! string_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $grammar:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what, grammar: $grammar })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

string_name!(
    /// Who a circuit belongs to: a session id, or for inference an endpoint id.
    OwnerId, "owner", is_mixed_name, MIXED_GRAMMAR
);
string_name!(
    /// Which service of its owner a circuit leads to, `jupyter` for example.
    ServiceName, "service", is_lower_name, LOWER_GRAMMAR
);
string_name!(
    /// Tells circuits of one service apart.
    Variant, "variant", is_lower_name, LOWER_GRAMMAR
);
string_name!(
    /// The name of one edge process.
    WorkerId, "worker id", is_mixed_name, MIXED_GRAMMAR
);
string_name!(
    /// The name of an authority.
    AuthorityName, "authority", is_lower_name, LOWER_GRAMMAR
);
string_name!(
    /// The user that a circuit belongs to, as the manager names them.
    UserId, "user id", is_user_id, "[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}"
);

fn is_user_id(text: &str) -> bool {
    is_name(text, |byte| byte.is_ascii_alphanumeric(), |byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte))
}

impl OwnerId {
    /// Parses an owner; a UUID takes its lower-case hyphenated form, so that one session has one spelling.
    pub fn parse_canonical(text: &str) -> Result<Self, NameError> {
        match Uuid::try_parse(text) {
            Ok(id) => Ok(Self(id.hyphenated().to_string())),
            Err(_) => text.parse(),
        }
    }
}

/// The unique name of a circuit: `<owner>:<service>[:<variant>]`. A clone costs no memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CircuitKey(Arc<str>);

impl CircuitKey {
    /// Joins the parts.
    pub fn new(owner: &OwnerId, service: &ServiceName, variant: Option<&Variant>) -> Self {
        match variant {
            Some(variant) => Self(format!("{owner}:{service}:{variant}").into()),
            None => Self(format!("{owner}:{service}").into()),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CircuitKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = NameError { what: "circuit key", grammar: "<owner>:<service>[:<variant>]" };
        let mut parts = text.split(':');
        let (Some(owner), Some(service)) = (parts.next(), parts.next()) else {
            return Err(error);
        };
        let variant = parts.next();
        if parts.next().is_some() {
            return Err(error);
        }
        let owner = OwnerId::parse_canonical(owner)?;
        let service: ServiceName = service.parse()?;
        let variant = variant.map(str::parse::<Variant>).transpose()?;
        Ok(Self::new(&owner, &service, variant.as_ref()))
    }
}

impl TryFrom<String> for CircuitKey {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<CircuitKey> for String {
    fn from(key: CircuitKey) -> String {
        key.0.to_string()
    }
}

impl fmt::Display for CircuitKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random one (UUID version 4).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// The id of one life of a circuit: opening a closed key again makes a new one.
    CircuitId
);
uuid_id!(
    /// Names the installation that a store and a registry belong to.
    InstallationId
);
uuid_id!(
    /// Names one life of the registry; revisions of different epochs cannot be compared.
    Epoch
);
uuid_id!(
    /// Names one run of an edge process.
    BootId
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

counter!(
    /// How often a circuit key has changed; it never goes back while the key's tombstone lives.
    Generation
);
counter!(
    /// A position in the registry. Comparable only within one [`Epoch`].
    Revision
);

/// A TCP port that can be connected to: 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Port(u16);

/// Port 0 means "any" to the operating system and names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a port is a number from 1 to 65535")]
pub struct PortError;

impl Port {
    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Port {
    type Error = PortError;

    fn try_from(number: u16) -> Result<Self, PortError> {
        if number == 0 { Err(PortError) } else { Ok(Self(number)) }
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> u16 {
        port.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_owner_service_and_perhaps_a_variant() {
        let key: CircuitKey = "s1:jupyter".parse().expect("valid");
        assert_eq!(key.as_str(), "s1:jupyter");
        assert!("s1:jupyter:gpu".parse::<CircuitKey>().is_ok());
        for wrong in ["", "s1", "s1:", ":jupyter", "s1:Jupyter", "s1:a:b:c", "s1:a/b", "s 1:a"] {
            assert!(wrong.parse::<CircuitKey>().is_err(), "{wrong:?} was taken for a key");
        }
    }

    #[test]
    fn one_session_has_one_spelling() {
        let upper: CircuitKey = "6F9619FF-8B86-4D01-B42D-00CF4FC964FF:jupyter".parse().expect("valid");
        assert_eq!(upper.as_str(), "6f9619ff-8b86-4d01-b42d-00cf4fc964ff:jupyter");
    }

    #[test]
    fn names_have_a_first_letter_and_a_length() {
        assert!("a".repeat(63).parse::<ServiceName>().is_ok());
        assert!("a".repeat(64).parse::<ServiceName>().is_err());
        assert!(".hidden".parse::<ServiceName>().is_err());
        assert!("tensor.board_2-x".parse::<ServiceName>().is_ok());
    }
}
