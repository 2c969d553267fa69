//! Keys and values of the registry, which other versions of this program have written, or somebody who got in.
//!
//! Invariant: what is read is written and read again as the same.

#![no_main]

use entities::ids::WorkerId;
use entities::registry::layout::{
    CircuitState, EnvelopeError, Layout, Meta, Place, decode_public_key, encode_public_key,
};
use entities::token::PublicKey;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    circuit(bytes);
    public_key(bytes);
    if let Ok(meta) = Meta::decode(bytes) {
        assert_eq!(Meta::decode(&meta.encode().expect("encodes")).expect("decodes"), meta);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        places(text);
    }
});

fn circuit(bytes: &[u8]) {
    let Ok(state) = CircuitState::decode(bytes) else { return };
    let value = match state.encode() {
        Ok(value) => value,
        // What is left out when it is the default may stand there all the same, and numbers have shorter forms.
        Err(EnvelopeError::TooLarge(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let again = CircuitState::decode(&value).expect("decodes");
    assert_eq!(again, state);
    assert_eq!(again.generation(), state.generation());
    assert_eq!(again.encode().expect("encodes"), value, "one state has one form");
    if let CircuitState::Open(versioned) = state {
        let layout = Layout::default();
        let key = versioned.circuit.key;
        assert_eq!(layout.parse(&layout.circuit(&key)), Place::Circuit(key));
    }
}

fn public_key(bytes: &[u8]) {
    let text =
        serde_json::from_slice(bytes).ok().and_then(|value: Value| Some(value["public_key"].as_str()?.to_owned()));
    let Some(key) = text.and_then(|text| text.parse::<PublicKey>().ok()) else { return };
    let id = key.id();
    if let Ok(read) = decode_public_key(&id, bytes) {
        assert_eq!(read, key);
        assert_eq!(decode_public_key(&id, &encode_public_key(&key).expect("encodes")).expect("decodes"), key);
        let other = "0123456789abcdef".parse().expect("an id");
        assert!(decode_public_key(&other, bytes).is_err(), "a key of another name");
    }
}

/// An input is a key under a prefix of its own, and each of its lines is a key under the usual one.
fn places(text: &str) {
    for key in text.lines() {
        place(&Layout::default(), key);
    }
    if let Some((prefix, key)) = text.split_once('\n') {
        place(&Layout::new(prefix), key);
    }
}

fn place(layout: &Layout, key: &str) {
    let (place, made) = match layout.parse(key) {
        Place::Circuit(circuit) => (Place::Circuit(circuit.clone()), layout.circuit(&circuit)),
        Place::Key(id) => (Place::Key(id.clone()), layout.key(&id)),
        Place::Meta => (Place::Meta, layout.meta()),
        Place::Other => {
            if let Ok(worker) = key.parse::<WorkerId>() {
                assert_eq!(layout.parse(&layout.worker(&worker)), Place::Other);
            }
            return;
        }
    };
    assert!(made.starts_with(&layout.root()), "{made}");
    assert_eq!(layout.parse(&made), place, "{key}");
    assert!(key.eq_ignore_ascii_case(&made) || matches!(place, Place::Circuit(_)), "{key}: {made}");
}
