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

    /// Ends every lease, as if their holders had been away for too long.
    pub async fn end_leases(&self) {
        let answer = self.ask("lease/leases", json!({})).await;
        for lease in answer["leases"].as_array().into_iter().flatten() {
            self.ask("lease/revoke", json!({"ID": lease["ID"]})).await;
        }
    }

    /// What an operator does after etcd said that its space is used up: removes what lies under `prefix`, makes room
    /// and lets it write again.
    pub async fn make_room(&self, prefix: &str) {
        let end = format!("{prefix}\u{7f}");
        let range = json!({"key": encode_block(prefix.as_bytes()), "range_end": encode_block(end.as_bytes())});
        let answer = self.ask("kv/deleterange", range).await;
        let revision = answer["header"]["revision"].clone();
        self.ask("kv/compaction", json!({"revision": revision, "physical": true})).await;
        self.ask("maintenance/defragment", json!({})).await;
        let answer = self.ask("maintenance/alarm", json!({"action": "GET"})).await;
        for alarm in answer["alarms"].as_array().into_iter().flatten() {
            let stop = json!({"action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": alarm["alarm"]});
            self.ask("maintenance/alarm", stop).await;
        }
    }

    async fn ask(&self, method: &str, body: Value) -> Value {
        let url = format!("{}/v3/{method}", self.endpoint());
        let answer = self.http.post(url).json(&body).send().await.expect("etcd answers");
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        assert!(status.is_success(), "{method}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// Who logs in as one of the users above.
pub fn credentials((user, password): (&str, &str)) -> Credentials {
    Credentials { user: user.to_owned(), password: password.to_owned() }
}
