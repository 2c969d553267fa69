//! Limits and ranges of the operating system that a proxy runs into.
//!
//! Invariant: nothing here fails: what cannot be had is logged, and the program goes on with what there is.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Every port and connection is a file descriptor: takes as many as the system lets this process have.
pub fn raise_descriptor_limit() {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => tracing::debug!(from = soft, to = hard, "raised the limit of open files"),
            Err(error) => tracing::warn!(soft, %error, "the limit of open files stays low"),
        },
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files is unknown"),
    }
}

/// The kernel gives ports of a range to outgoing connections, so binding one of them fails now and then. `first` and
/// `last` are the ports that circuits may get.
pub fn warn_of_ephemeral_ports(first: u16, last: u16) {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let Ok(text) = std::fs::read_to_string(SETTING) else { return };
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<u16>().ok());
    let (Some(ephemeral_first), Some(ephemeral_last)) = (numbers.next(), numbers.next()) else { return };
    if first <= ephemeral_last && last >= ephemeral_first {
        tracing::warn!(
            ports = %format!("{first}-{last}"),
            ephemeral = %format!("{ephemeral_first}-{ephemeral_last}"),
            "ports of circuits overlap with those of outgoing connections; reserve them with the sysctl net.ipv4.ip_local_reserved_ports"
        );
    }
}
