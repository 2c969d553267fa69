//! What passes for a token, and what does not.

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const NOW_S: i64 = 1_790_000_000;

#[derive(Default)]
struct Ring(HashMap<KeyId, PublicKey>);

impl KeyRing for Ring {
    fn find(&self, id: &KeyId) -> Option<VerifyingKey> {
        self.0.get(id).map(PublicKey::verifying_key)
    }
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

fn ring(keys: &[&SigningKey]) -> Ring {
    Ring(keys.iter().map(|key| (key.public().id(), key.public())).collect())
}

fn circuit() -> CircuitId {
    CircuitId(Uuid::from_u128(7))
}

fn claims(kind: TokenKind) -> Claims {
    Claims::new(kind, circuit(), Generation(3), NOW_S + 60)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(LETTERS[(number >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

/// The token with another part in place of its own.
fn with_part(token: &str, index: usize, part: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[index] = part;
    parts.join(".")
}

#[test]
fn a_token_opens_its_circuit_until_its_end() {
    let key = key(1);
    for kind in [TokenKind::Ticket, TokenKind::Bearer] {
        let token = key.sign(kind, &claims(kind)).expect("signs");
        let read = verify(kind, token.as_bytes(), &ring(&[&key])).expect("ours");
        assert_eq!(read, claims(kind));
        assert_eq!(read.judge(circuit(), Generation(3), NOW_S + 59), Ok(()));
        assert_eq!(read.judge(circuit(), Generation(3), NOW_S + 60), Err(TokenError::Expired));
        assert_eq!(read.judge(circuit(), Generation(4), NOW_S), Err(TokenError::Revoked));
        assert_eq!(read.judge(CircuitId(Uuid::from_u128(8)), Generation(3), NOW_S), Err(TokenError::OtherCircuit));
        assert!(is_ours(token.as_bytes()));
    }
}

#[test]
fn a_cookie_is_read_with_any_of_the_keys_and_no_other() {
    let keys = ["new", "old"].map(CookieKey::derived_from);
    let cookie = keys[1].sign(&claims(TokenKind::Cookie)).expect("signs");
    assert!(verify(TokenKind::Cookie, cookie.as_bytes(), &keys[..]).is_ok());
    let rotated = verify(TokenKind::Cookie, cookie.as_bytes(), &keys[..1]);
    assert_eq!(rotated, Err(TokenError::UnknownKey));
    assert!(is_ours(cookie.as_bytes()));
}

#[test]
fn no_kind_passes_for_another() {
    let key = key(1);
    let cookie_keys = [CookieKey::derived_from("k")];
    let cookie = cookie_keys[0].sign(&claims(TokenKind::Cookie)).expect("signs");
    for (made, asked) in [(TokenKind::Ticket, TokenKind::Bearer), (TokenKind::Bearer, TokenKind::Ticket)] {
        let token = key.sign(made, &claims(made)).expect("signs");
        assert_eq!(verify(asked, token.as_bytes(), &ring(&[&key])), Err(TokenError::Malformed));
        assert_eq!(verify(TokenKind::Cookie, token.as_bytes(), &cookie_keys[..]), Err(TokenError::Malformed));
        assert_eq!(verify(asked, cookie.as_bytes(), &ring(&[&key])), Err(TokenError::Malformed));
        // The type alone does not decide: the signature covers the audience too.
        let mixed = key.sign(asked, &claims(made)).expect("signs");
        assert_eq!(verify(asked, mixed.as_bytes(), &ring(&[&key])), Err(TokenError::Malformed));
    }
}

#[test]
fn a_key_that_is_not_accepted_signs_nothing() {
    let token = key(1).sign(TokenKind::Bearer, &claims(TokenKind::Bearer)).expect("signs");
    assert_eq!(verify(TokenKind::Bearer, token.as_bytes(), &ring(&[&key(2)])), Err(TokenError::UnknownKey));
    // Somebody else's key under the name of ours.
    let stolen_name = Ring(HashMap::from([(key(1).public().id(), key(2).public())]));
    assert_eq!(verify(TokenKind::Bearer, token.as_bytes(), &stolen_name), Err(TokenError::BadSignature));
}

#[test]
fn whatever_is_tampered_with_does_not_pass() {
    let key = key(1);
    let token = key.sign(TokenKind::Bearer, &claims(TokenKind::Bearer)).expect("signs");
    let check = |token: &str| verify(TokenKind::Bearer, token.as_bytes(), &ring(&[&key]));
    let header = |alg: &str, extra: Value| {
        let mut header = json!({"typ": "appproxy-token+jwt", "alg": alg, "kid": key.public().id()});
        for (name, value) in extra.as_object().expect("an object") {
            header[name] = value.clone();
        }
        base64(header.to_string().as_bytes())
    };
    let later = Claims { expires_at_s: NOW_S * 2, ..claims(TokenKind::Bearer) };
    let later = base64(serde_json::to_string(&later).expect("JSON").as_bytes());
    assert_eq!(check(&with_part(&token, 1, &later)), Err(TokenError::BadSignature));
    for alg in ["none", "None", "HS256", "RS256", "ES256", "EdDSA2"] {
        for signature in [token.rsplit('.').next().expect("a part"), ""] {
            let forged = with_part(&with_part(&token, 0, &header(alg, json!({}))), 2, signature);
            assert_eq!(check(&forged), Err(TokenError::Malformed), "{alg}");
        }
    }
    let critical = with_part(&token, 0, &header("EdDSA", json!({"crit": ["b64"]})));
    assert_eq!(check(&critical), Err(TokenError::Malformed));
    for bytes in 0..token.len() {
        assert!(check(&token[..bytes]).is_err(), "{bytes} bytes pass");
    }
    for index in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        assert!(verify(TokenKind::Bearer, &changed, &ring(&[&key])).is_err(), "byte {index} may be anything");
    }
    assert_eq!(check(&"a".repeat(MAX_TOKEN_BYTES + 1)), Err(TokenError::Malformed));
}

/// The public key is known to everybody: whoever can make the edge use it as a secret signs what they like.
#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let key = key(1);
    let public = key.public();
    let secret = jsonwebtoken::EncodingKey::from_secret(public.verifying_key().0.try_get_as_bytes().expect("bytes"));
    let cookie = encode(TokenKind::Cookie, &claims(TokenKind::Cookie), &public.id(), &secret).expect("signs");
    let header = json!({"typ": "appproxy-token+jwt", "alg": "HS256", "kid": public.id()});
    let forged = with_part(&cookie, 0, &base64(header.to_string().as_bytes()));
    assert_eq!(verify(TokenKind::Bearer, forged.as_bytes(), &ring(&[&key])), Err(TokenError::Malformed));
}

#[test]
fn only_tokens_of_ours_look_like_ours() {
    for text in
        ["", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.e30.x", "sk-0123456789abcdef"]
    {
        assert!(!is_ours(text.as_bytes()), "{text}");
    }
}

#[test]
fn keys_are_read_from_hexadecimal_digits_and_print_no_secret() {
    let text = "ab".repeat(32);
    let key: SigningKey = text.parse().expect("a key");
    assert!(!format!("{key:?}{:?}", CookieKey::derived_from(&text)).contains("abab"));
    for wrong in ["", "ab", &"ab".repeat(33), &"zz".repeat(32), &"+1".repeat(32)] {
        assert_eq!(wrong.parse::<SigningKey>().err(), Some(KeyError::Secret), "{wrong}");
    }
    let public = key.public();
    assert_eq!(public.to_string().parse(), Ok(public));
    assert_eq!(public.id().as_str().parse(), Ok(public.id()));
    // The neutral point: every message has a signature for it.
    let weak = format!("01{}", "00".repeat(31));
    assert_eq!(weak.parse::<PublicKey>(), Err(KeyError::Public));
}
