//! An authority and what it vouches for: an etcd at `127.0.0.1`.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

/// The authority that vouches for the etcd whose files are in `folder`.
pub(super) fn ca_file(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

/// What makes etcd use TLS with the files in `folder`.
pub(super) fn arguments(folder: &Path) -> [String; 2] {
    let file = |name: &str| folder.join(name).display().to_string();
    [format!("--cert-file={}", file("server.pem")), format!("--key-file={}", file("server.key"))]
}

/// Writes the authority's certificate, and certificate and key of an etcd.
pub(super) fn write(folder: &Path) {
    let (ca_key, ca_name) = (new_key(), name("test authority"));
    let mut ca = certificate(&ca_name, &ca_name, &ca_key);
    ca.append_extension(BasicConstraints::new().critical().ca().build().expect("valid")).expect("valid");
    ca.sign(&ca_key, MessageDigest::sha256()).expect("signs");

    let server_key = new_key();
    let mut server = certificate(&name("etcd"), &ca_name, &server_key);
    let addresses = SubjectAlternativeName::new().ip("127.0.0.1").build(&server.x509v3_context(None, None));
    server.append_extension(addresses.expect("valid")).expect("valid");
    server.sign(&ca_key, MessageDigest::sha256()).expect("signs");

    write_file(&ca_file(folder), &ca.build().to_pem().expect("encodes"));
    write_file(&folder.join("server.pem"), &server.build().to_pem().expect("encodes"));
    write_file(&folder.join("server.key"), &server_key.private_key_to_pem_pkcs8().expect("encodes"));
}

/// An authority of the same name that vouches for nothing.
pub fn other_ca_file(folder: &Path) -> PathBuf {
    write(folder);
    ca_file(folder)
}

fn certificate(subject: &X509Name, issuer: &X509Name, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().expect("builds");
    builder.set_version(2).expect("X.509 v3");
    let mut serial = BigNum::new().expect("a number");
    serial.rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false).expect("random");
    builder.set_serial_number(&serial.to_asn1_integer().expect("fits")).expect("valid");
    builder.set_subject_name(subject).expect("valid");
    builder.set_issuer_name(issuer).expect("valid");
    builder.set_pubkey(key).expect("valid");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("a time")).expect("valid");
    builder.set_not_after(&Asn1Time::days_from_now(1).expect("a time")).expect("valid");
    builder
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("known");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

fn name(common_name: &str) -> X509Name {
    let mut name = X509Name::builder().expect("builds");
    name.append_entry_by_nid(Nid::COMMONNAME, common_name).expect("valid");
    name.build()
}

fn write_file(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
