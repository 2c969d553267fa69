//! The file of API keys.
//!
//! A line is a scope and a key: `manager KEY`, `read KEY`, `worker KEY`, or `worker:gpu,cpu KEY` for the workers of
//! some authorities. Empty lines and those that begin with `#` say nothing.
//!
//! Invariant: no fault repeats what might be a key.

use super::{ApiKey, Scope};

/// Short keys can be guessed: 16 bytes are 64 random bits in hexadecimal.
const MIN_KEY_BYTES: usize = 16;

/// Reads the lines of a key file; every fault is named with its line.
///
/// # Errors
/// The faults.
pub fn parse(text: &str) -> Result<Vec<ApiKey>, Vec<String>> {
    let mut keys = Vec::new();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
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
    let (Some(scope), Some(secret), None) = (words.next(), words.next(), words.next()) else {
        return Err("must be a scope and a key".to_owned());
    };
    if secret.len() < MIN_KEY_BYTES {
        return Err(format!("the key is shorter than {MIN_KEY_BYTES} bytes; `openssl rand -hex 32` makes one"));
    }
    let scope = match scope.split_once(':') {
        None => match scope {
            "manager" => Scope::Manager,
            "read" => Scope::Read,
            "worker" => Scope::Worker { authorities: Vec::new() },
            _ => return Err("the scope must be manager, read or worker".to_owned()),
        },
        Some(("worker", names)) => {
            let parse = |name: &str| name.parse().map_err(|error| format!("authority {name:?}: {error}"));
            Scope::Worker { authorities: names.split(',').map(parse).collect::<Result<_, _>>()? }
        }
        Some(_) => return Err("only the scope worker names authorities".to_owned()),
    };
    Ok(ApiKey::new(secret, scope))
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
        assert_eq!(keys[2].secret, format!("{KEY}w"));
    }

    #[test]
    fn every_fault_has_its_line_and_no_key() {
        let faults = parse(&format!("manger {KEY}\nread short\nmanager {KEY} x\nread:a {KEY}\nworker:-x {KEY}\n"));
        let faults = faults.expect_err("faulty");
        let lines: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().expect("a place")).collect();
        assert_eq!(lines, ["line 1", "line 2", "line 3", "line 4", "line 5"], "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.contains(KEY) && !fault.contains("short ")), "{faults:?}");
    }

    #[test]
    fn a_coordinator_needs_a_manager_and_a_worker() {
        assert_eq!(parse(&format!("read {KEY}")).expect_err("faulty").len(), 2);
    }
}
