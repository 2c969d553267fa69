//! What routes there are, as the OpenAPI document says.
//!
//! Invariant: read from the document alone, so a route that is not in it has no name and answers no other methods.

use std::sync::Arc;

use utoipa::openapi::OpenApi;

/// Every route of the document.
#[derive(Debug)]
pub(super) struct Catalogue(Vec<Route>);

/// One path and its methods.
#[derive(Debug)]
pub(super) struct Route {
    /// As the document writes it: `/v2/circuits/{circuit}`.
    pub(super) template: Arc<str>,
    /// `GET, POST`, as `Allow` wants it (RFC 9110 §10.2.1).
    pub(super) methods: String,
}

// === impl Catalogue ===

impl Catalogue {
    pub(super) fn new(document: &OpenApi) -> Self {
        let routes = document.paths.paths.iter().map(|(template, item)| {
            let methods = [
                ("DELETE", &item.delete),
                ("GET", &item.get),
                ("PATCH", &item.patch),
                ("POST", &item.post),
                ("PUT", &item.put),
            ];
            let methods: Vec<&str> =
                methods.into_iter().filter(|(_, operation)| operation.is_some()).map(|(word, _)| word).collect();
            Route { template: template.as_str().into(), methods: methods.join(", ") }
        });
        Self(routes.collect())
    }

    /// The route of a path.
    pub(super) fn find(&self, path: &str) -> Option<&Route> {
        self.0.iter().find(|route| matches(&route.template, path))
    }
}

fn matches(template: &str, path: &str) -> bool {
    let mut wanted = template.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given || (wanted.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use utoipa::OpenApi as _;

    use super::*;
    use crate::api::openapi::Document;

    #[test]
    fn a_path_has_the_route_of_its_shape_and_that_has_its_methods() {
        let catalogue = Catalogue::new(&Document::openapi());
        let found = |path| catalogue.find(path).map(|route| (&*route.template, route.methods.as_str()));
        assert_eq!(found("/v2/circuits"), Some(("/v2/circuits", "GET, POST")));
        assert_eq!(found("/v2/circuits/s1:app"), Some(("/v2/circuits/{circuit}", "DELETE, GET, PATCH")));
        assert_eq!(found("/v2/workers/w1/heartbeat"), Some(("/v2/workers/{worker_id}/heartbeat", "POST")));
        for path in ["", "/", "/v2", "/v2/circuits/", "/v2/circuits/a/b/c", "/health/x"] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
