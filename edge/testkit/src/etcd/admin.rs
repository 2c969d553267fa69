//! What an administrator does to etcd, through its JSON gateway.

use entities::ids::Revision;
use entities::registry::etcd::config::Credentials;
use openssl::base64::encode_block;
use serde_json::{Value, json};

use super::Etcd;

/// May do everything, once logins are needed; the password comes second.
pub const ROOT: (&str, &str) = ("root", "root-secret");

/// May read what lies under `/readable/` and nothing else.
pub const READER: (&str, &str) = ("reader", "reader-secret");

impl Etcd {
    /// Forgets what was before `revision`.
    pub async fn compact(&self, revision: Revision) {
        self.ask("kv/compaction", json!({"revision": revision.0, "physical": true})).await;
    }

    /// From now on nobody gets in without a login: [`ROOT`] and [`READER`].
    pub async fn require_login(&self) {
        for (user, password) in [ROOT, READER] {
            self.ask("auth/role/add", json!({"name": user})).await;
            self.ask("auth/user/add", json!({"name": user, "password": password})).await;
            self.ask("auth/user/grant", json!({"user": user, "role": user})).await;
        }
        let range = json!({
            "permType": "READ",
            "key": encode_block(b"/readable/"),
            "range_end": encode_block(b"/readable0"),
        });
        self.ask("auth/role/grant", json!({"name": READER.0, "perm": range})).await;
        self.ask("auth/enable", json!({})).await;
    }

    async fn ask(&self, method: &str, body: Value) {
        let url = format!("{}/v3/{method}", self.endpoint());
        let answer = self.http.post(url).json(&body).send().await.expect("etcd answers");
        assert!(answer.status().is_success(), "{method}: {}", answer.text().await.unwrap_or_default());
    }
}

/// Who logs in as one of the users above.
pub fn credentials((user, password): (&str, &str)) -> Credentials {
    Credentials { user: user.to_owned(), password: password.to_owned() }
}
