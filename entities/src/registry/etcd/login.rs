//! Logging in to etcd, once for everybody.
//!
//! Invariant: while nobody has forgotten a session, nobody logs in: etcd spends a tenth of a second of CPU on each
//! login.

use etcd_rs::{AuthOp, Client};
use tokio::sync::Mutex;
use tonic::transport::Channel;

use super::config::Credentials;
use super::failure::Failure;

/// Who logs in, and the session that this gave.
pub(super) struct Login {
    credentials: Option<Credentials>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    logins: u64,
    session: Option<Session>,
}

/// What calls are made with.
#[derive(Clone, Default)]
pub(super) struct Session {
    number: u64,
    /// `None` where etcd asks for no login.
    pub(super) token: Option<String>,
}

// === impl Login ===

impl Login {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, state: Mutex::default() }
    }

    /// Whether forgetting a session can help.
    pub(super) fn can_log_in(&self) -> bool {
        self.credentials.is_some()
    }

    /// The session that there is, or a new one made through `channel`.
    pub(super) async fn session(&self, channel: Channel) -> Result<Session, Failure> {
        let Some(credentials) = &self.credentials else { return Ok(Session::default()) };
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session {
            return Ok(session.clone());
        }
        let token = log_in(credentials, channel).await?;
        state.logins += 1;
        let session = Session { number: state.logins, token };
        state.session = Some(session.clone());
        Ok(session)
    }

    /// Makes the next call log in again, unless somebody has done so since `session` was given out.
    pub(super) async fn forget(&self, session: &Session) {
        let mut state = self.state.lock().await;
        if state.session.as_ref().is_some_and(|current| current.number == session.number) {
            state.session = None;
        }
    }
}

async fn log_in(credentials: &Credentials, channel: Channel) -> Result<Option<String>, Failure> {
    let request = (credentials.user.clone(), credentials.password.clone());
    match Client::with_channel(channel, None).authenticate(request).await {
        Ok(answer) => Ok(Some(answer.token)),
        Err(etcd_rs::Error::Response(status)) if status.message().contains("authentication is not enabled") => Ok(None),
        Err(error) => Err(error.into()),
    }
}
