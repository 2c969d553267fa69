//! One call to etcd: which endpoint, logged in, within its time limit, and unharmed by what the client crate makes of
//! the answer.
//!
//! Invariant: a call visits each endpoint at most once and ends within the time limit; a call that writes visits
//! another endpoint only when nothing can have happened at the one before.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_rs::Client;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::config::{EtcdConfig, EtcdConfigError};
use super::connection::{Connection, Endpoint};
use super::failure::{Failure, Kind};
use super::login::Login;

/// Makes calls to the cluster.
pub(super) struct Calls {
    endpoints: Vec<Endpoint>,
    /// Where the next call begins: the endpoint that answered last.
    preferred: AtomicUsize,
    login: Login,
    time_limit: Duration,
}

/// Whether a call may be made again when it is not known whether it has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing, or nothing more the second time.
    Harmless,
    /// The second time would be answered differently.
    Harmful,
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(config: EtcdConfig) -> Result<Self, EtcdConfigError> {
        Ok(Self {
            endpoints: Endpoint::all(&config)?,
            preferred: AtomicUsize::new(0),
            login: Login::new(config.credentials),
            time_limit: config.request_timeout,
        })
    }

    /// Host and port of every endpoint.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(Endpoint::name)
    }

    /// Makes a call, at the next endpoint if need be.
    pub(super) async fn make<T, C>(
        &self,
        repeat: Repeat,
        call: impl Fn(Client) -> C + Send + Sync,
    ) -> Result<T, Failure>
    where
        T: Send,
        C: Future<Output = Result<T, Failure>> + Send,
    {
        let ends_at = Instant::now() + self.time_limit;
        let count = self.endpoints.len();
        let start = self.preferred.load(Ordering::Relaxed);
        let mut earlier: Option<Failure> = None;
        for (visited, (index, endpoint)) in
            self.endpoints.iter().enumerate().cycle().skip(start).take(count).enumerate()
        {
            let share = share_of(ends_at.saturating_duration_since(Instant::now()), count - visited);
            let failure = match self.visit(endpoint, share, &call).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure.at(endpoint.name()).after(earlier.take()),
            };
            match failure.kind {
                Kind::NotSent => {}
                Kind::Unclear if repeat == Repeat::Harmless => {}
                Kind::Unclear => {
                    self.prefer_after(index);
                    return Err(failure);
                }
                Kind::NotLoggedIn | Kind::Compacted | Kind::LeaseEnded | Kind::Refused => return Err(failure),
            }
            self.prefer_after(index);
            earlier = Some(failure);
        }
        Err(earlier.unwrap_or_else(|| Failure::unclear("there is no endpoint")))
    }

    /// One endpoint, for at most `share`.
    async fn visit<T, C>(
        &self,
        endpoint: &Endpoint,
        share: Duration,
        call: &(impl Fn(Client) -> C + Send + Sync),
    ) -> Result<T, Failure>
    where
        C: Future<Output = Result<T, Failure>> + Send,
    {
        let connection = endpoint.connection();
        let call = contained(self.logged_in(&connection, call));
        timeout(share, call).await.unwrap_or_else(|_| {
            endpoint.give_up(&connection);
            Err(Failure::unclear(&format!("no answer within {} ms", share.as_millis())))
        })
    }

    async fn logged_in<T, C>(
        &self,
        connection: &Connection,
        call: &(impl Fn(Client) -> C + Send + Sync),
    ) -> Result<T, Failure>
    where
        C: Future<Output = Result<T, Failure>> + Send,
    {
        let mut is_first = true;
        loop {
            let session = self.login.session(connection.channel.clone()).await?;
            let client = Client::with_channel(connection.channel.clone(), session.token.clone());
            match call(client).await {
                Err(failure) if failure.kind == Kind::NotLoggedIn && is_first && self.login.can_log_in() => {
                    self.login.forget(&session).await;
                    is_first = false;
                }
                answer => return answer,
            }
        }
    }

    fn prefer_after(&self, index: usize) {
        // Calls that ran at the same time and failed at the same endpoint move on by one together.
        let next = (index + 1) % self.endpoints.len().max(1);
        let _moved = self.preferred.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The client crate asserts what it expects of answers; a panic there is a broken call and no more.
async fn contained<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // Nothing outlives the call but the channel and the login, whose own tasks and locks stay whole.
    AssertUnwindSafe(call)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Failure::unclear("the answer was not what the client expects")))
}

/// What one of `endpoints` gets of the time that is left.
fn share_of(left: Duration, endpoints: usize) -> Duration {
    left / u32::try_from(endpoints.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn calls(endpoints: usize, time_limit: Duration) -> Calls {
        let mut config = EtcdConfig::new((1..=endpoints).map(|port| format!("http://127.0.0.1:{port}")));
        config.request_timeout = time_limit;
        Calls::new(config).expect("valid")
    }

    /// Makes a call that ends everywhere in `kind`, and counts its visits.
    async fn visits(calls: &Calls, repeat: Repeat, kind: Kind) -> usize {
        let visits = Mutex::new(0);
        let failed = calls
            .make(repeat, |_| {
                *visits.lock().expect("whole") += 1;
                let mut failure = Failure::unclear("no");
                failure.kind = kind;
                async move { Err::<(), _>(failure) }
            })
            .await;
        assert_eq!(failed.map_err(|failure| failure.kind), Err(kind));
        visits.into_inner().expect("whole")
    }

    #[tokio::test]
    async fn a_write_goes_to_another_endpoint_only_if_it_cannot_have_happened() {
        let calls = calls(3, Duration::from_secs(60));
        assert_eq!(visits(&calls, Repeat::Harmless, Kind::Unclear).await, 3);
        assert_eq!(visits(&calls, Repeat::Harmful, Kind::Unclear).await, 1);
        assert_eq!(visits(&calls, Repeat::Harmful, Kind::NotSent).await, 3);
        for kind in [Kind::Refused, Kind::Compacted, Kind::LeaseEnded] {
            assert_eq!(visits(&calls, Repeat::Harmless, kind).await, 1, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn the_next_call_begins_where_the_last_one_found_an_answer() {
        let calls = calls(3, Duration::from_secs(60));
        visits(&calls, Repeat::Harmful, Kind::Unclear).await;
        assert_eq!(calls.preferred.load(Ordering::Relaxed), 1);
        visits(&calls, Repeat::Harmless, Kind::Unclear).await;
        assert_eq!(calls.preferred.load(Ordering::Relaxed), 1, "once around");
        visits(&calls, Repeat::Harmless, Kind::Refused).await;
        assert_eq!(calls.preferred.load(Ordering::Relaxed), 1, "it has answered");
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_that_never_answer_share_the_time_limit() {
        let calls = calls(3, Duration::from_secs(6));
        let start = Instant::now();
        let failed = calls.make(Repeat::Harmless, |_| std::future::pending::<Result<(), Failure>>()).await;
        assert_eq!(failed.map_err(|failure| failure.kind), Err(Kind::Unclear));
        assert_eq!(start.elapsed(), Duration::from_secs(6));
    }

    #[tokio::test]
    async fn a_panic_is_a_broken_call() {
        let calls = calls(1, Duration::from_secs(60));
        let failed =
            calls.make(Repeat::Harmless, |_| async { panic!("must fetch header") as Result<(), Failure> }).await;
        assert_eq!(failed.map_err(|failure| failure.kind), Err(Kind::Unclear));
    }
}
