//! Which authority gets a circuit: the first that fits, by name.
//!
//! Invariant: pure; a circuit is placed only where a worker answers.

use entities::authority::{Authority, DomainFrontends, PortFrontends};
use entities::frontend::FrontendRequest;

/// One authority and how many of its workers could serve.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The authority.
    pub authority: Authority,
    /// Its workers that are neither lost nor draining.
    pub workers: usize,
}

/// Where a circuit goes, and the part of the authority that gives the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A port of this authority.
    Port(Authority, PortFrontends),
    /// A name under this authority's domain.
    Subdomain(Authority, DomainFrontends),
}

impl Place {
    /// The authority.
    pub fn authority(&self) -> &Authority {
        match self {
            Self::Port(authority, _) | Self::Subdomain(authority, _) => authority,
        }
    }
}

/// Why nothing fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// There is no worker at all.
    #[error("no worker is there to serve a circuit")]
    NoWorker,
    /// Workers are there, but none takes such a frontend.
    #[error("no authority with a worker takes such a frontend")]
    NoFrontend,
    /// The port is in no authority's range.
    #[error("the port is in no authority's range")]
    PortOutOfRange,
}

/// Chooses.
pub fn choose(candidates: &[Candidate], request: &FrontendRequest) -> Result<Place, NoPlace> {
    let mut staffed: Vec<&Authority> =
        candidates.iter().filter(|candidate| candidate.workers > 0).map(|candidate| &candidate.authority).collect();
    if staffed.is_empty() {
        return Err(NoPlace::NoWorker);
    }
    staffed.sort_by(|left, right| left.name.cmp(&right.name));
    match request {
        FrontendRequest::Subdomain { .. } => staffed
            .into_iter()
            .find_map(|authority| authority.subdomains.clone().map(|part| Place::Subdomain(authority.clone(), part)))
            .ok_or(NoPlace::NoFrontend),
        FrontendRequest::Port { port } => {
            let with_ports: Vec<(&Authority, &PortFrontends)> = staffed
                .into_iter()
                .filter_map(|authority| authority.ports.as_ref().map(|part| (authority, part)))
                .collect();
            let fitting = with_ports.iter().find(|(_, part)| port.is_none_or(|port| part.ports.contains(port)));
            match fitting {
                Some((authority, part)) => Ok(Place::Port((*authority).clone(), (*part).clone())),
                None if with_ports.is_empty() => Err(NoPlace::NoFrontend),
                None => Err(NoPlace::PortOutOfRange),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use entities::ids::Port;

    use super::*;

    fn candidate(name: &str, domain: Option<&str>, ports: Option<&str>, workers: usize) -> Candidate {
        let port = |number| Port::try_from(number).expect("valid");
        let authority = Authority {
            name: name.parse().expect("valid"),
            subdomains: domain.map(|domain| DomainFrontends {
                domain: domain.parse().expect("valid"),
                public_scheme: Default::default(),
                public_port: port(80),
            }),
            ports: ports.map(|ports| PortFrontends {
                host: "edge.example.org".parse().expect("valid"),
                ports: ports.parse().expect("valid"),
                public_scheme: Default::default(),
            }),
        };
        Candidate { authority, workers }
    }

    fn chosen(candidates: &[Candidate], request: FrontendRequest) -> Result<String, NoPlace> {
        choose(candidates, &request).map(|place| place.authority().name.to_string())
    }

    #[test]
    fn the_first_fitting_authority_with_a_worker_gets_it() {
        let candidates = [
            candidate("c", Some("c.example"), Some("100-200"), 1),
            candidate("a", Some("a.example"), None, 0),
            candidate("b", None, Some("300-400"), 1),
        ];
        let port = |number: Option<u16>| FrontendRequest::Port {
            port: number.map(|number| Port::try_from(number).expect("valid")),
        };
        assert_eq!(chosen(&candidates, FrontendRequest::default()), Ok("c".to_owned()));
        assert_eq!(chosen(&candidates, port(None)), Ok("b".to_owned()));
        assert_eq!(chosen(&candidates, port(Some(150))), Ok("c".to_owned()));
        assert_eq!(chosen(&candidates, port(Some(99))), Err(NoPlace::PortOutOfRange));
        assert_eq!(chosen(&candidates[1..2], port(None)), Err(NoPlace::NoWorker));
        assert_eq!(chosen(&candidates[2..], FrontendRequest::default()), Err(NoPlace::NoFrontend));
    }
}
