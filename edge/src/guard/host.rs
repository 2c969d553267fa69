//! What `Host` and the authority of a URI may be (RFC 3986 §3.2.2, RFC 9110 §7.2).
//!
//! Invariant: what passes has no delimiter that would end or split it in another reader. Whether a circuit has the
//! name is for the table to say.

use super::Rule;

/// Checks the value of a `Host` field.
pub(super) fn check(value: &[u8]) -> Result<(), Rule> {
    let rest = match value.strip_prefix(b"[") {
        Some(literal) => after_literal(literal)?,
        None => {
            let end = value.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(value.len());
            if end == 0 && matches!(value, [] | [b':', ..]) {
                return Err(Rule::HostEmpty);
            }
            value.get(end..).unwrap_or_default()
        }
    };
    match rest {
        [] => Ok(()),
        [b':', port @ ..] => check_port(port),
        _ => Err(fault_of(rest)),
    }
}

/// What is wrong with a host that goes on like this.
fn fault_of(rest: &[u8]) -> Rule {
    if rest.contains(&b'@') {
        Rule::HostUserinfo
    } else if rest.contains(&b',') {
        Rule::HostList
    } else {
        Rule::HostGrammar
    }
}

/// What follows `[…]`.
fn after_literal(literal: &[u8]) -> Result<&[u8], Rule> {
    let end = literal.iter().position(|byte| *byte == b']').ok_or(Rule::HostGrammar)?;
    let (address, rest) = literal.split_at_checked(end).ok_or(Rule::HostGrammar)?;
    let is_address =
        address.contains(&b':') && address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
    if is_address { Ok(rest.get(1..).unwrap_or_default()) } else { Err(Rule::HostGrammar) }
}

/// RFC 3986 §3.2.3 allows an empty port.
fn check_port(port: &[u8]) -> Result<(), Rule> {
    if !port.iter().all(u8::is_ascii_digit) {
        // `user:password@host` has its colon before the user ends.
        let fault = fault_of(port);
        return Err(if fault == Rule::HostGrammar { Rule::HostPort } else { fault });
    }
    let number = port
        .iter()
        .fold(0_u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit.saturating_sub(b'0'))));
    if number <= u32::from(u16::MAX) { Ok(()) } else { Err(Rule::HostPort) }
}

/// What names and addresses are made of; nobody serves the escapes and delimiters that RFC 3986 allows beside them.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for host in ["a", "a.test", "A.Test.:80", "10.0.0.1:65535", "[::1]:1", "[2001:db8::1]", "a_b.test", "a:"] {
            assert_eq!(check(host.as_bytes()), Ok(()), "{host}");
        }
        for (host, rule) in [
            ("", Rule::HostEmpty),
            (":80", Rule::HostEmpty),
            ("a@b", Rule::HostUserinfo),
            ("a:b@c", Rule::HostUserinfo),
            ("a,b", Rule::HostList),
            ("a:1,b:2", Rule::HostList),
            ("a, b", Rule::HostList),
            ("a b", Rule::HostGrammar),
            ("a/b", Rule::HostGrammar),
            ("a?b", Rule::HostGrammar),
            ("a\\b", Rule::HostGrammar),
            ("http://a", Rule::HostPort),
            ("a:x", Rule::HostPort),
            ("a:65536", Rule::HostPort),
            ("a:+1", Rule::HostPort),
            ("a:99999999999999999999", Rule::HostPort),
            ("[::1", Rule::HostGrammar),
            ("[::1]x", Rule::HostGrammar),
            ("[a]", Rule::HostGrammar),
            ("[fe80::1%25eth0]", Rule::HostGrammar),
            ("a%2eb", Rule::HostGrammar),
            ("a;b", Rule::HostGrammar),
            ("\u{e4}.test", Rule::HostGrammar),
        ] {
            assert_eq!(check(host.as_bytes()), Err(rule), "{host}");
        }
    }
}
