//! Files, variables and secrets as people write them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::*;

fn no_file(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::Error::new(io::ErrorKind::NotFound, "no such file"))
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn every_fault_comes_at_once_with_its_line() {
    let text =
        "[api]\nbind = \"nowhere\"\nsurprise = 1\n\n[registry]\nendpoints = [\"a\", 2021-01-01]\n[extra]\nx = 1\n";
    let mut settings = Settings::new("c.toml", text, [], &no_file);
    let bind: Option<SocketAddr> = settings.required("api", "bind");
    let url: Option<String> = settings.required("database", "url");
    let endpoints: Option<Vec<String>> = settings.list("registry", "endpoints");
    let faults = settings.finish(bind.zip(url).zip(endpoints)).expect_err("faulty");
    assert_eq!(
        faults.lines(),
        [
            "c.toml:2: [api] bind: invalid socket address syntax",
            "c.toml:3: [api] surprise: there is no such key",
            "c.toml:6: [registry] endpoints: must be a text, a number, true, false or a list of texts",
            "c.toml:8: [extra] x: there is no such section",
            "c.toml: [database] url: is required",
        ]
    );
}

#[test]
fn syntax_errors_have_their_lines_too() {
    let settings = Settings::new("c.toml", "[api]\nbind = \n[x\n", [], &no_file);
    let faults = settings.finish(Some(())).expect_err("faulty");
    assert!(faults.lines()[0].starts_with("c.toml:2: "), "{faults}");
}

#[test]
fn the_environment_goes_over_the_file() {
    let environment = [
        variable("APPPROXY_API__BIND", "127.0.0.1:1"),
        variable("APPPROXY_REGISTRY__ENDPOINTS", "a, b"),
        variable("APPPROXY_LOG", "info"),
        variable("HOME", "/"),
    ];
    let mut settings = Settings::new("c.toml", "[api]\nbind = \"127.0.0.1:9\"\n", environment, &no_file);
    let bind: Option<SocketAddr> = settings.required("api", "bind");
    let endpoints: Option<Vec<String>> = settings.list("registry", "endpoints");
    let (bind, endpoints) = settings.finish(bind.zip(endpoints)).expect("faultless");
    assert_eq!((bind.port(), endpoints), (1, vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_faulty_variable_is_named_as_it_was_set() {
    let environment = [variable("APPPROXY_API__LIMIT", "many"), variable("APPPROXY_API__TYPO", "1")];
    let mut settings = Settings::new("c.toml", "", environment, &no_file);
    settings.number("api", "limit", 5, 1, 10);
    let faults = settings.finish(Some(())).expect_err("faulty");
    assert_eq!(
        faults.lines(),
        [
            "environment: APPPROXY_API__LIMIT: invalid digit found in string",
            "environment: APPPROXY_API__TYPO: there is no such key",
        ]
    );
}

#[test]
fn a_secret_stands_in_the_file_or_in_one_of_its_own() {
    let read = |path: &Path| {
        if path == Path::new("/run/key") { Ok(b"hush\n".to_vec()) } else { no_file(path) }
    };
    let secret = |text: &str| {
        let mut settings = Settings::new("c.toml", text, [], &read);
        let secret = settings.secret("db", "password");
        settings.finish(secret)
    };
    assert_eq!(secret("[db]\npassword_file = \"/run/key\"").expect("read").expose(), "hush");
    assert_eq!(secret("[db]\npassword = \"hush\"").expect("read").expose(), "hush");
    let faults = secret("[db]\npassword_file = \"/nowhere\"").expect_err("missing");
    assert_eq!(faults.lines(), ["c.toml:2: [db] password_file: /nowhere: no such file"]);
    let faults = secret("[db]\npassword = \"hush\"\npassword_file = \"/run/key\"").expect_err("both");
    assert!(!faults.to_string().contains("hush"), "{faults}");
    assert_eq!(format!("{:?}", Secret("hush".to_owned())), "Secret(…)");
}

#[test]
fn numbers_have_bounds() {
    let mut settings = Settings::new("c.toml", "[api]\nwait_s = 99\n", [], &no_file);
    settings.number("api", "wait_s", 5, 1, 60);
    let faults = settings.finish(Some(())).expect_err("out of bounds");
    assert_eq!(faults.lines(), ["c.toml:2: [api] wait_s: must be from 1 to 60"]);
}

#[test]
fn secrets_stand_in_a_list_or_in_the_lines_of_a_file() {
    let read_file = |path: &Path| match path.to_str() {
        Some("/run/keys") => Ok(b"# ours\none\n\n two \n".to_vec()),
        _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    let secrets = |text: &str| {
        let mut settings = Settings::new("c.toml", text, [], &read_file);
        let secrets = settings.secrets("api", "keys");
        settings.finish(Some(secrets.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()))
    };
    assert_eq!(secrets("[api]\nkeys_file = \"/run/keys\"").expect("read"), ["one", "two"]);
    assert_eq!(secrets("[api]\nkeys = [\"one\", \"two\"]").expect("read"), ["one", "two"]);
    assert!(secrets("").expect("none").is_empty());
    for faulty in ["[api]\nkeys_file = \"/nowhere\"", "[api]\nkeys = [\"a\"]\nkeys_file = \"/run/keys\""] {
        secrets(faulty).expect_err("faulty");
    }
}
