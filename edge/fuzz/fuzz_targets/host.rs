//! Names of hosts, as clients and the API's callers write them.
//!
//! Invariant: what is accepted is in normal form, and equal to itself however often it is read again.

#![no_main]

use entities::access::Origin;
use entities::authority::Scheme;
use entities::host::{HostName, Subdomain, is_ip_or_localhost, split_host_header};
use entities::limits::MAX_HOST_BYTES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    split(text);
    names(text);
    origins(text);
});

fn split(text: &str) {
    let Some((host, port)) = split_host_header(text) else { return };
    let host = host.as_ref();
    assert!(!host.is_empty() && host.len() <= MAX_HOST_BYTES, "{text:?}: {host:?}");
    let is_normal = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !b"/@?#\\%,;".contains(&byte);
    assert!(host.bytes().all(is_normal), "{text:?}: {host:?}");
    assert!(text.get(..host.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(host)), "{text:?}: {host:?}");
    let again = |text: &str| split_host_header(text).map(|(host, port)| (host.into_owned(), port));
    assert_eq!(again(host), Some((host.to_owned(), None)), "{text:?}");
    if let Some(port) = port {
        assert_eq!(again(&format!("{host}:{port}")), Some((host.to_owned(), Some(port))), "{text:?}");
    }
    let _ = is_ip_or_localhost(host);
}

fn names(text: &str) {
    if let Ok(host) = text.parse::<HostName>() {
        assert_eq!(host.to_string().parse().as_ref(), Ok(&host), "{text:?}");
        let (split, port) = split_host_header(text).expect("a name is a host");
        assert_eq!((split.as_ref(), port), (host.as_str(), None), "{text:?}");
        assert!(!host.as_str().ends_with('.') && host.as_str().len() <= MAX_HOST_BYTES, "{text:?}");
        if let Ok(under) = "a".parse::<Subdomain>().expect("a label").under(&host) {
            assert_eq!(under.as_str().strip_prefix("a."), Some(host.as_str()), "{text:?}");
        }
    }
    if let Ok(subdomain) = text.parse::<Subdomain>() {
        assert_eq!(subdomain.to_string().parse(), Ok(subdomain), "{text:?}");
        let name: HostName = text.parse().expect("a label is a name");
        assert_eq!(name.as_str(), text);
    }
}

fn origins(text: &str) {
    let whole = text.parse::<Origin>().ok();
    let made = [Scheme::Http, Scheme::Https].map(|scheme| Origin::new(scheme, text));
    for origin in made.into_iter().chain([whole]).flatten() {
        assert_eq!(origin.to_string().parse().as_ref(), Ok(&origin), "{text:?}");
        let printable = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        assert!(origin.as_str().bytes().all(printable), "{text:?}: {origin}");
    }
}
