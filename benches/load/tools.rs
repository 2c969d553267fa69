//! Programs of others: nginx as origin and as a rival, haproxy as a rival, wrk as client.
//!
//! Invariant: each runs with a configuration of ours in a folder of ours and answers before it is used.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use benches::process::{Process, wait_for_port};
use testkit::ports::free_port;

/// An nginx that runs.
pub(crate) struct Nginx {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// A haproxy that runs.
pub(crate) struct Haproxy {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// What wrk saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    pub(crate) p99_ms: f64,
}

// === impl Nginx ===

impl Nginx {
    /// Answers every request with 56 bytes.
    pub(crate) fn origin(dir: &Path, cpu: Option<usize>) -> Self {
        let body = "x".repeat(56);
        Self::start(dir, "origin", 1, cpu, "", &format!("location / {{ return 200 '{body}'; }}"))
    }

    /// Passes every request on to `origin`, over connections that it keeps.
    pub(crate) fn proxy(dir: &Path, workers: usize, origin: SocketAddr, cpu: Option<usize>) -> Self {
        let upstream = format!("upstream origin {{ server {origin}; keepalive 256; keepalive_requests 1000000000; }}");
        let location = "location / { proxy_pass http://origin; proxy_http_version 1.1; \
                        proxy_set_header Connection ''; proxy_set_header Host $http_host; \
                        proxy_set_header X-Forwarded-For $remote_addr; }";
        Self::start(dir, "proxy", workers, cpu, &upstream, location)
    }

    /// Passes every request on to `origin`, upgrades included.
    pub(crate) fn upgrading(dir: &Path, origin: SocketAddr) -> Self {
        let location = format!(
            "location / {{ proxy_pass http://{origin}; proxy_http_version 1.1; proxy_read_timeout 1h; \
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}"
        );
        Self::start(dir, "upgrading", 1, None, "", &location)
    }

    fn start(dir: &Path, name: &str, workers: usize, cpu: Option<usize>, outer: &str, location: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = |file: &str| dir.join(format!("{name}.{file}")).display().to_string();
        let configuration = format!(
            "daemon off;\nworker_processes {workers};\npid {pid};\nerror_log stderr crit;\n\
             events {{ worker_connections 16384; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  client_body_temp_path {body};\n  \
             proxy_temp_path {proxy};\n  fastcgi_temp_path {fastcgi};\n  uwsgi_temp_path {uwsgi};\n  \
             scgi_temp_path {scgi};\n  {outer}\n  server {{ listen {address}; {location} }}\n}}\n",
            pid = at("pid"),
            body = at("body"),
            proxy = at("proxy"),
            fastcgi = at("fastcgi"),
            uwsgi = at("uwsgi"),
            scgi = at("scgi"),
        );
        let path = dir.join(format!("{name}.conf"));
        std::fs::write(&path, configuration).expect("written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(&path).stdout(Stdio::null());
        let process = Process::start(command, cpu);
        wait_for_port(address);
        Self { process, address }
    }
}

// === impl Haproxy ===

impl Haproxy {
    /// Relays to `target`: in mode `tcp` by splice, in mode `http` with upgrades.
    pub(crate) fn start(dir: &Path, mode: &str, target: SocketAddr) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        // Its pipes count against the limit of descriptors, and it does not start if they might not suffice.
        let (splice, most) =
            if mode == "tcp" { ("option splice-request\n  option splice-response", 1_000) } else { ("", 8_000) };
        let configuration = format!(
            "global\n  maxconn {most}\ndefaults\n  mode {mode}\n  {splice}\n  timeout connect 5s\n  \
             timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n\
             listen relay\n  bind {address}\n  server target {target}\n"
        );
        let path = dir.join(format!("haproxy-{mode}.cfg"));
        std::fs::write(&path, configuration).expect("written");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::start(command, None);
        wait_for_port(address);
        Self { process, address }
    }
}

/// Lets wrk ask `address` for `seconds`, over `connections` connections.
pub(crate) fn wrk(address: SocketAddr, host: &str, connections: usize, seconds: u64, cpu: Option<usize>) -> Seen {
    let mut command = match cpu {
        Some(cpu) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &cpu.to_string(), "wrk"]);
            command
        }
        None => Command::new("wrk"),
    };
    command
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--latency", "-H"])
        .arg(format!("Host: {host}"))
        .arg(format!("http://{address}/"));
    let output = command.output().expect("wrk is installed (Debian package wrk)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")).expect("wrk says how many");
    let per_second = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")).expect("wrk says it");
    let p99 = text.lines().find_map(|line| line.trim().strip_prefix("99%")).expect("wrk says it");
    Seen {
        requests: requests.0.parse().expect("a number"),
        per_second: per_second.trim().parse().expect("a number"),
        p99_ms: milliseconds(p99.trim()),
    }
}

/// A time as wrk prints it: `812.00us`, `1.23ms`, `1.02s`.
fn milliseconds(text: &str) -> f64 {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let (number, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale))).expect("a unit of wrk");
    number.parse::<f64>().expect("a number") * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_wrk_are_read() {
        assert_eq!(["250.00us", "1.50ms", "2.00s"].map(milliseconds), [0.25, 1.5, 2000.0]);
    }
}
