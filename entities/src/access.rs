//! Who may use a circuit.
//!
//! Invariant: an [`Access`] holds only rules that the edge enforces, each of them readable: an entry that does not parse is
//! refused at the API, never skipped.

mod origin;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::circuit::Backend;
use crate::faults::{FaultCode, Faults};
use crate::fields::Fields;
use crate::ids::UserId;
use crate::limits::{MAX_ALLOWED_CLIENTS, MAX_ALLOWED_ORIGINS, MAX_LOGIN_URL_BYTES};
use crate::range::{AddressRange, AddressRangeError};

pub use origin::{Origin, OriginError};

/// Who may use a circuit. By default nobody who shows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Anybody who can reach the edge may use it, from the addresses in `allowed_clients`.
    pub public: bool,
    /// Whose it is. A released subdomain rests for everybody but them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// If there are any, clients must be in one of these ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_clients: Vec<AddressRange>,
    /// Pages of these origins may use the circuit with the cookie of its user, besides its own pages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<Origin>,
    /// Whether a preflight (Fetch standard, §3.3.2) of a page that may use the circuit passes without a credential: browsers
    /// show none with it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_preflight: bool,
    /// Whether the target gets the bearer token that opened the circuit.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forward_token: bool,
    /// Where browsers are sent that bring nothing that opens the circuit: the manager's page that issues tickets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_url: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Access {
    /// Anybody who can reach the edge.
    #[must_use]
    pub fn for_everybody() -> Self {
        Self { public: true, ..Self::default() }
    }

    /// Reads the field `access`.
    pub fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let access = Self {
            public: fields.boolean("public", faults).unwrap_or_default(),
            user_id: fields.parse::<UserId>("user_id", faults),
            allowed_clients: read_list(&mut fields, "allowed_clients", MAX_ALLOWED_CLIENTS, parse_range, faults),
            allowed_origins: read_list(&mut fields, "allowed_origins", MAX_ALLOWED_ORIGINS, parse_origin, faults),
            allow_preflight: fields.boolean("allow_preflight", faults).unwrap_or_default(),
            forward_token: fields.boolean("forward_token", faults).unwrap_or_default(),
            login_url: fields.parse_with("login_url", faults, parse_login_url),
        };
        fields.finish(faults);
        Some(access)
    }

    /// Notes what does not fit a circuit with this backend.
    pub(crate) fn check(&self, backend: Backend, faults: &mut Faults) {
        if backend != Backend::Tcp {
            return;
        }
        if !self.public && self.allowed_clients.is_empty() {
            let detail = "a byte stream shows no credential: say who may use it, {\"allowed_clients\": [\"10.0.0.0/8\"]} \
                          for example, or \"public\": true";
            faults.push("/access/allowed_clients", FaultCode::Required, detail);
        }
        for (name, is_set) in [
            ("allowed_origins", !self.allowed_origins.is_empty()),
            ("allow_preflight", self.allow_preflight),
            ("forward_token", self.forward_token),
            ("login_url", self.login_url.is_some()),
        ] {
            if is_set {
                let detail = format!("{name} is a rule of HTTP, and the backend is tcp");
                faults.push(format!("/access/{name}"), FaultCode::Contradiction, detail);
            }
        }
    }

    /// Whether a client at `ip` is in a range that may use the circuit.
    pub fn allows_client(&self, ip: IpAddr) -> bool {
        self.allowed_clients.is_empty() || AddressRange::any_contains(&self.allowed_clients, ip)
    }
}

/// Whether `path` leads to a place of the host that it is asked of: browsers take `//host` and `/\\host` for another host.
pub fn is_local_path(path: &str) -> bool {
    let is_printable = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    path.starts_with('/') && !path.starts_with("//") && path.bytes().all(is_printable)
}

/// Each entry of a list of strings, or a fault for it.
fn read_list<T: PartialEq>(
    fields: &mut Fields<'_>,
    name: &'static str,
    most: usize,
    parse: impl Fn(&str) -> Result<T, String>,
    faults: &mut Faults,
) -> Vec<T> {
    let Some(list) = fields.list(name, faults) else { return Vec::new() };
    let pointer = fields.pointer_to(name);
    if list.len() > most {
        faults.push(pointer, FaultCode::TooLarge, format!("{name} takes at most {most} entries"));
        return Vec::new();
    }
    let mut entries = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let place = format!("{pointer}/{index}");
        match value.as_str().map(&parse) {
            None => faults.push(place, FaultCode::WrongType, "must be a string"),
            Some(Err(detail)) => faults.push(place, FaultCode::Invalid, detail),
            Some(Ok(entry)) if entries.contains(&entry) => {
                faults.push(place, FaultCode::Duplicate, "stands in the list already");
            }
            Some(Ok(entry)) => entries.push(entry),
        }
    }
    entries
}

fn parse_range(text: &str) -> Result<AddressRange, String> {
    text.parse().map_err(|error: AddressRangeError| error.to_string())
}

fn parse_origin(text: &str) -> Result<Origin, String> {
    text.parse().map_err(|error: OriginError| error.to_string())
}

/// An absolute URL of the web, as text: the edge puts it into `Location`.
fn parse_login_url(text: &str) -> Result<String, String> {
    if text.len() > MAX_LOGIN_URL_BYTES {
        return Err(format!("must not be longer than {MAX_LOGIN_URL_BYTES} bytes"));
    }
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_url = rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        crate::host::split_host_header(authority).is_some()
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte))
    });
    if is_url {
        Ok(text.to_owned())
    } else {
        Err("must be an absolute URL without a fragment, https://manager.example.org/login for example".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Access, Vec<(String, FaultCode)>> {
        let mut faults = Faults::default();
        let access = Access::read(&value, "/access", &mut faults);
        let found: Vec<_> = faults.as_slice().iter().map(|fault| (fault.pointer.clone(), fault.code)).collect();
        if found.is_empty() { Ok(access.expect("an object")) } else { Err(found) }
    }

    #[test]
    fn every_rule_is_read() {
        let access = read(json!({
            "public": false, "user_id": "alice", "allowed_clients": ["10.1.2.3/8", "2001:db8::1", "::ffff:192.0.2.0/120"],
            "allowed_origins": ["https://lab.example.org"], "allow_preflight": true, "forward_token": true,
            "login_url": "https://manager.example.org/open?from=proxy",
        }))
        .expect("valid");
        let ranges: Vec<String> = access.allowed_clients.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.0.0.0/8", "2001:db8::1/128", "192.0.2.0/24"]);
        for (ip, is_allowed) in [
            ("10.9.9.9", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
        ] {
            assert_eq!(access.allows_client(ip.parse().expect("valid")), is_allowed, "{ip}");
        }
        let text = serde_json::to_value(&access).expect("JSON");
        assert_eq!(serde_json::from_value::<Access>(text).expect("reads back"), access);
    }

    #[test]
    fn nobody_is_kept_out_where_nobody_is_named() {
        assert!(Access::default().allows_client("192.0.2.1".parse().expect("valid")));
    }

    #[test]
    fn an_entry_that_does_not_parse_is_a_fault_of_its_own() {
        let found = read(json!({"allowed_clients": ["10.0.0.0/8", "10.0.0.0/33", 7, "all", "10.0.0.1/8"],
            "allowed_origins": ["https://a.test", "a.test", "https://a.test/path", "null", "*"]}))
        .expect_err("faulty");
        let found: Vec<_> = found.iter().map(|(pointer, code)| (pointer.as_str(), *code)).collect();
        assert_eq!(
            found,
            [
                ("/access/allowed_clients/1", FaultCode::Invalid),
                ("/access/allowed_clients/2", FaultCode::WrongType),
                ("/access/allowed_clients/3", FaultCode::Invalid),
                ("/access/allowed_clients/4", FaultCode::Duplicate),
                ("/access/allowed_origins/1", FaultCode::Invalid),
                ("/access/allowed_origins/2", FaultCode::Invalid),
                ("/access/allowed_origins/3", FaultCode::Invalid),
                ("/access/allowed_origins/4", FaultCode::Invalid),
            ]
        );
        let many: Vec<String> = (0..=MAX_ALLOWED_CLIENTS).map(|number| format!("10.0.0.{number}")).collect();
        assert_eq!(
            read(json!({"allowed_clients": many})),
            Err(vec![("/access/allowed_clients".to_owned(), FaultCode::TooLarge)])
        );
    }

    #[test]
    fn a_login_page_is_an_absolute_url_that_fits_into_a_field() {
        for url in ["https://m.test", "http://m.test:8080/login?x=%20&y=1", "https://[::1]/"] {
            assert!(parse_login_url(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "/login",
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://u@m.test/",
            "https://m.test/\r\nX: y",
            "https://m.test/#a",
            "https://m.test/a b",
            "ftp://m.test/",
        ] {
            assert!(parse_login_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_path_does_not_lead_to_another_host() {
        for path in ["/", "/lab?reset&x=%20#top", "/a//b"] {
            assert!(is_local_path(path), "{path}");
        }
        for path in
            ["", "lab", "//evil.test", "/\\evil.test", "/a\\b", "https://evil.test", "/a b", "/a\r\nX: y", "/\u{e9}"]
        {
            assert!(!is_local_path(path), "{path}");
        }
    }

    #[test]
    fn a_private_byte_stream_says_who_may_use_it_and_has_no_rules_of_http() {
        let check = |value: Value, backend| {
            let mut faults = Faults::default();
            read(value).expect("valid").check(backend, &mut faults);
            let found: Vec<_> = faults.as_slice().iter().map(|fault| (fault.pointer.clone(), fault.code)).collect();
            found
        };
        let required = vec![("/access/allowed_clients".to_owned(), FaultCode::Required)];
        assert_eq!(check(json!({"public": false}), Backend::Tcp), required);
        assert_eq!(check(json!({"public": false}), Backend::Http), []);
        assert_eq!(check(json!({"public": false, "allowed_clients": ["10.0.0.0/8"]}), Backend::Tcp), []);
        assert_eq!(check(json!({"public": true}), Backend::Tcp), []);
        let pages = json!({"public": true, "allowed_origins": ["https://a.test"], "login_url": "https://m.test/",
            "allow_preflight": true, "forward_token": true});
        assert_eq!(check(pages.clone(), Backend::Http), []);
        assert_eq!(check(pages, Backend::Tcp).len(), 4);
    }
}
