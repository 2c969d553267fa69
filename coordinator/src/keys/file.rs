//! The file of API keys.
//!
//! A line is a scope and a key: `manager KEY`, `read KEY`, `worker KEY`, or `worker:gpu,cpu KEY` for the workers of
//! some authorities. Instead of a key it may have the digest of one, `sha256:` and 64 hexadecimal digits, except for
//! workers: the coordinator shows them their key. `name=NAME` may follow, for the log. Empty lines and those that begin
//! with `#` say nothing.
//!
//! Invariant: no fault repeats what might be a key.

use openssl::sha::sha256;

use super::{ApiKey, Scope};

/// What a digest begins with.
pub(super) const DIGEST_PREFIX: &str = "sha256:";

/// A name is short and has no space.
const MAX_NAME_BYTES: usize = 63;

/// Short keys can be guessed: 16 bytes are 64 random bits in hexadecimal.
const MIN_KEY_BYTES: usize = 16;

/// Reads the lines of a key file; every fault is named with its line.
///
/// # Errors
/// The faults.
pub fn parse(text: &str) -> Result<Vec<ApiKey>, Vec<String>> {
    let mut keys: Vec<ApiKey> = Vec::new();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            // With two scopes for one key, which one counts would be a matter of luck.
            Ok(key) if keys.iter().any(|known| known.digest == key.digest) => {
                faults.push(format!("line {}: an earlier line has the same key", index + 1));
            }
            Ok(key) => keys.push(key),
            Err(fault) => faults.push(format!("line {}: {fault}", index + 1)),
        }
    }
    let is_readable = faults.is_empty();
    let has_manager = keys.iter().any(|key| key.scope == Scope::Manager);
    let has_worker = keys.iter().any(|key| matches!(key.scope, Scope::Worker { .. }));
    for (has_one, word) in [(has_manager, "manager"), (has_worker, "worker")] {
        if is_readable && !has_one {
            faults.push(format!("there is no key with the scope {word}"));
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

fn parse_line(line: &str) -> Result<ApiKey, String> {
    let mut words = line.split_whitespace();
    let (Some(scope), Some(secret), name, None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("must be a scope and a key, and name=NAME if it has one".to_owned());
    };
    let scope = parse_scope(scope)?;
    let key = match secret.strip_prefix(DIGEST_PREFIX) {
        Some(_) if matches!(scope, Scope::Worker { .. }) => {
            return Err("a worker's key must stand here itself: the coordinator shows it to workers".to_owned());
        }
        Some(digits) => ApiKey::hashed(parse_digest(digits)?, scope),
        None => {
            check_length(secret)?;
            ApiKey::new(secret, scope)
        }
    };
    match name {
        None => Ok(key),
        Some(name) => match name.strip_prefix("name=").filter(|name| is_name(name)) {
            Some(name) => Ok(key.named(name)),
            None => Err(format!(
                "after the key only name=NAME may follow, up to {MAX_NAME_BYTES} letters, digits, dots, dashes and \
                 underscores"
            )),
        },
    }
}

/// The line of a key file that has the digest of `secret` instead of it.
///
/// # Errors
/// The key is too short, or it is one of a worker.
pub fn hashed_line(scope: &str, secret: &str, name: Option<&str>) -> Result<String, String> {
    check_length(secret)?;
    let digits: String = sha256(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = name.map(|name| format!(" name={name}")).unwrap_or_default();
    let line = format!("{scope} {DIGEST_PREFIX}{digits}{name}");
    parse_line(&line).map(|_| line)
}

fn check_length(secret: &str) -> Result<(), String> {
    if secret.len() < MIN_KEY_BYTES {
        return Err(format!("the key is shorter than {MIN_KEY_BYTES} bytes; `openssl rand -hex 32` makes one"));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let is_short = (1..=MAX_NAME_BYTES).contains(&text.len());
    is_short && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn parse_digest(digits: &str) -> Result<[u8; 32], String> {
    let fault = || format!("after {DIGEST_PREFIX} there must be 64 hexadecimal digits; `keys hash` makes them");
    let mut digest = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(fault());
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        let pair = digits.get(index * 2..index * 2 + 2).ok_or_else(fault)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| fault())?;
    }
    Ok(digest)
}

fn parse_scope(scope: &str) -> Result<Scope, String> {
    match scope.split_once(':') {
        None => match scope {
            "manager" => Ok(Scope::Manager),
            "read" => Ok(Scope::Read),
            "worker" => Ok(Scope::Worker { authorities: Vec::new() }),
            _ => Err("the scope must be manager, read or worker".to_owned()),
        },
        Some(("worker", names)) => {
            let parse = |name: &str| name.parse().map_err(|error| format!("authority {name:?}: {error}"));
            Ok(Scope::Worker { authorities: names.split(',').map(parse).collect::<Result<_, _>>()? })
        }
        Some(_) => Err("only the scope worker names authorities".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn each_line_is_a_scope_and_a_key() {
        let text = format!("# ours\n\nmanager {KEY}\nread   {KEY}r\nworker:gpu,cpu {KEY}w\nworker {KEY}any\n");
        let keys = parse(&text).expect("faultless");
        let some = Scope::Worker { authorities: vec!["gpu".parse().expect("valid"), "cpu".parse().expect("valid")] };
        let scopes: Vec<&Scope> = keys.iter().map(|key| &key.scope).collect();
        assert_eq!(scopes, [&Scope::Manager, &Scope::Read, &some, &Scope::Worker { authorities: vec![] }]);
        assert_eq!(keys[2].secret, Some(format!("{KEY}w")));
    }

    #[test]
    fn a_digest_stands_for_its_key_and_a_name_goes_with_either() {
        let line = hashed_line("manager", KEY, Some("ops-1")).expect("faultless");
        assert!(!line.contains(KEY), "{line}");
        let keys = parse(&format!("{line}\nworker {KEY}w name=edges\n")).expect("faultless");
        assert_eq!(keys[0], ApiKey::hashed(sha256(KEY.as_bytes()), Scope::Manager).named("ops-1"));
        assert_eq!(keys[1].label(), "edges");
        for (scope, secret, name) in
            [("worker", KEY, None), ("read", "short", None), ("reed", KEY, None), ("read", KEY, Some("two words"))]
        {
            hashed_line(scope, secret, name).expect_err("faulty");
        }
    }

    #[test]
    fn every_fault_has_its_line_and_no_key() {
        let lines = [
            format!("manger {KEY}"),
            "read short".to_owned(),
            format!("manager {KEY} x"),
            format!("read:a {KEY}"),
            format!("worker:-x {KEY}"),
            format!("read {KEY}"),
            format!("manager {KEY} name=twice"),
            "read sha256:0123".to_owned(),
            format!("read sha256:{}g", &KEY.repeat(4)[1..]),
            format!("worker sha256:{}", KEY.repeat(4)),
            format!("read {KEY}2 name="),
            format!("read {KEY}3 name=x y"),
        ];
        let faults = parse(&lines.join("\n"));
        let faults = faults.expect_err("faulty");
        let found: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().expect("a place")).collect();
        // The sixth is the only one that is right.
        let wanted: Vec<String> =
            (1..=lines.len()).filter(|number| *number != 6).map(|number| format!("line {number}")).collect();
        assert_eq!(found, wanted, "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.contains(KEY) && !fault.contains("short ")), "{faults:?}");
    }

    #[test]
    fn a_coordinator_needs_a_manager_and_a_worker() {
        assert_eq!(parse(&format!("read {KEY}")).expect_err("faulty").len(), 2);
    }
}
