//! One plain request of HTTP/1.0 or HTTP/1.1, from its judged head to the end of its answer, over our own sockets and buffers.
//!
//! It takes what comes for circuits with HTTP/1 targets: no upgrade, no call of gRPC, nothing that is asked of the edge itself, no
//! circuit whose bandwidth is limited. Everything else goes on to [`crate::proxy`]. Both ask [`Decider`] what becomes of a request.
//!
//! Invariant: framing is ours both ways (RFC 9112): what reaches a target and what reaches a client is written from what was
//! understood, never passed on as it came.

mod answer;
mod broken;
mod carry;
mod deadline;
mod fields;
mod framing;
mod pool;
mod request;
mod trailers;

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use entities::circuit::Backend;
use http::header::CONTENT_TYPE;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::balance::{BrokenOff, TargetFault};
use crate::circuit::LiveCircuit;
use crate::connection::ClientStream;
use crate::decide::{Arrived, Decider, Found, RequestContext, Verdict};
use crate::head::RequestView as _;
use crate::record::{EndedBy, RedactedPath};
use crate::refusal::{Fault, Refused};
use crate::reply::{Problem, Reply, is_grpc};
use crate::shared::Shared;
use crate::socket::{linger, send};
use crate::tcp::{ReachedTarget, reach};
use crate::words::Words as _;
use broken::Broken;
pub(crate) use carry::Kept;
use carry::{Carrier, Finished, Sides};
use framing::Framing;
pub(crate) use pool::Pool;
use pool::PoolKey;
use request::{Asked, ParsedRequest, room};

/// Carries plain requests of HTTP/1.
pub(crate) struct Engine {
    /// Decides about them.
    pub(crate) decider: Arc<Decider>,
    /// Idle connections to their targets.
    pub(crate) pool: Arc<Pool>,
    /// Places for answers that nobody takes.
    pub(crate) stalled: Arc<Semaphore>,
}

/// A client's connection while its requests are served.
pub(crate) struct Line<'a> {
    /// Its bytes.
    pub(crate) client: &'a mut ClientStream,
    /// What was read of them: the head of the request, and what came behind it.
    pub(crate) read: &'a mut BytesMut,
    /// What it keeps between requests.
    pub(crate) kept: &'a mut Kept,
    /// Whether the edge ends it after this request.
    pub(crate) is_last: bool,
}

/// What comes after a request.
pub(crate) enum Next {
    /// The next one, if there is any.
    Request,
    /// Nothing: the connection ends.
    End,
    /// The request is not for this engine; nothing of it is taken.
    Elsewhere(Box<Arrived>),
}

/// A request that was let in.
struct Forward {
    circuit: Arc<LiveCircuit>,
    asked: Asked,
    /// The head for the target.
    head: Vec<u8>,
}

/// What becomes of a request.
enum Begun {
    Forward(Box<RequestContext>, Box<Forward>),
    Answer(Box<RequestContext>, Asked, Box<Reply>),
    Refused(Box<RequestContext>, Asked, Refused),
    Elsewhere(Box<Arrived>),
}

// === impl Engine ===

impl Engine {
    /// Serves the request whose judged head is the first `length` bytes that were read.
    pub(crate) async fn serve(&self, line: Line<'_>, length: usize, arrived: Arrived) -> Next {
        let begun = self.begin(line.read.get(..length).unwrap_or_default(), arrived);
        let (context, asked, reply) = match begun {
            Begun::Elsewhere(arrived) => return Next::Elsewhere(arrived),
            Begun::Forward(context, forward) => {
                line.read.advance(length);
                return self.forward(line, context, *forward).await;
            }
            Begun::Answer(mut context, asked, reply) => {
                context.recording.end(EndedBy::Answered, None);
                (context, asked, *reply)
            }
            Begun::Refused(mut context, asked, refused) => {
                let reply = reply_to(refused, &asked, &mut context);
                (context, asked, reply)
            }
        };
        line.read.advance(length);
        let may_keep = !line.is_last && !must_close(&context, &self.decider.shared);
        answer(line.client, reply, &asked, may_keep, context).await
    }

    /// Parses, asks what becomes of it, and writes the head for the target. Nothing of this waits.
    fn begin(&self, head: &[u8], arrived: Arrived) -> Begun {
        let mut room = room();
        let parsed = ParsedRequest::of(head, &mut room);
        let Some((request, asked)) = parsed.and_then(|request| request.asked().map(|asked| (request, asked))) else {
            return Begun::Elsewhere(Box::new(arrived));
        };
        if is_grpc(request.value(&CONTENT_TYPE)) {
            return Begun::Elsewhere(Box::new(arrived));
        }
        let mut context = Box::new(RequestContext::begin(arrived));
        context.recording.path = Some(RedactedPath::shown(request.path()));
        let found = self.decider.identify(&request, &mut context).and_then(|()| self.decider.find(&request, &context));
        let verdict = match found {
            Ok(Found::Circuit(circuit)) if circuit.backend == Backend::Http && circuit.bandwidth.is_none() => {
                self.decider.let_in(circuit, &request, &mut context)
            }
            Ok(_) => return Begun::Elsewhere(Box::new(context.into_arrived())),
            Err(refused) => Err(refused),
        };
        let circuit = context.circuit.as_ref().map(|(circuit, _)| Arc::clone(circuit));
        match (verdict, circuit) {
            (Ok(Verdict::Forward), Some(circuit)) => {
                if let Some(stickiness) = circuit.balancer.stickiness() {
                    context.attempts.prefer(stickiness.find(request.values(&http::header::COOKIE)));
                }
                let mut head = Vec::with_capacity(head.len() + 512);
                request.write_for_target(&context, &circuit, &asked, &mut head);
                Begun::Forward(context, Box::new(Forward { circuit, asked, head }))
            }
            (Ok(Verdict::Answer(reply)), _) => Begun::Answer(context, asked, Box::new(reply)),
            (Err(refused), _) => Begun::Refused(context, asked, refused),
            (Ok(Verdict::Ask(_) | Verdict::Forward), _) => Begun::Elsewhere(Box::new(context.into_arrived())),
        }
    }

    async fn forward(&self, line: Line<'_>, mut context: Box<RequestContext>, forward: Forward) -> Next {
        let Forward { circuit, asked, head } = forward;
        let Line { client, read, kept, is_last } = line;
        let mut carrier = Carrier::new(&asked, &head, !is_last);
        loop {
            let reached = match self.reach(&circuit, &mut context).await {
                Ok(reached) => reached,
                Err(refused) => return refuse(client, refused, &asked, context).await,
            };
            let ReachedTarget { socket: mut target, is_reused, identity, address } = reached;
            let ended = {
                let mut sides = Sides {
                    client,
                    early: read,
                    target: &mut target,
                    kept,
                    context: &mut context,
                    circuit: &circuit,
                    shared: &self.decider.shared,
                    stalled: &self.stalled,
                };
                poll_fn(|task| carrier.poll(&mut sides, task)).await
            };
            let broken = match ended {
                Ok(Finished { keeps, target_keeps }) => {
                    if target_keeps {
                        self.pool.give_back(PoolKey { target: identity, address }, target);
                    }
                    context.recording.succeed();
                    drop(context);
                    return if keeps { Next::Request } else { finish(client).await };
                }
                Err(broken) => broken,
            };
            drop(target);
            if may_try_again(&broken, &carrier, is_reused, &circuit, &mut context) {
                carrier.begin_again();
                continue;
            }
            let Some(refused) = blame(&broken, &circuit, &mut context) else { return Next::End };
            if refused.problem == Problem::WriteTimeout || carrier.has_answer() {
                // What the client has got cannot be taken back.
                context.recording.refuse(refused);
                if !carrier.is_framed() {
                    // The client must not take what was cut short for something whole.
                    client.reset();
                }
                return Next::End;
            }
            context.recording.bytes_to_client = 0;
            return refuse(client, refused, &asked, context).await;
        }
    }

    /// A connection to a target, an idle one if there is one.
    async fn reach(&self, circuit: &LiveCircuit, context: &mut RequestContext) -> Result<ReachedTarget, Refused> {
        let idle = |place: &crate::balance::Place<'_>| -> Option<TcpStream> {
            self.pool.take(PoolKey { target: place.target.identity(), address: place.address })
        };
        let connection = Arc::clone(context.connection());
        let reaching = reach(circuit, &connection, &mut context.attempts, &mut context.recording, idle);
        reaching.await.map_err(|error| {
            let problem = match error.problem() {
                _ if context.attempts.is_starting() => Problem::Starting,
                Problem::NoTarget if !context.attempts.is_untried() => Problem::TargetUnreachable,
                problem => problem,
            };
            Refused::new(problem, error.to_string())
        })
    }
}

/// Whether the client hears that its connection ends with this answer.
fn must_close(context: &RequestContext, shared: &Shared) -> bool {
    context.connection().is_ending() || shared.memory.is_tight()
}

/// Whether the request is sent once more: all of it is there, and no answer has begun.
fn may_try_again(
    broken: &Broken,
    carrier: &Carrier<'_>,
    is_reused: bool,
    circuit: &LiveCircuit,
    context: &mut RequestContext,
) -> bool {
    let has_closed = match broken {
        Broken::TargetClosed(_) => true,
        Broken::Answer(_) | Broken::NothingFinal => false,
        _ => return false,
    };
    let how = if is_reused && has_closed { BrokenOff::Reused } else { BrokenOff::Fresh };
    if how == BrokenOff::Fresh {
        context.attempts.note_broken(&circuit.balancer);
    }
    has_closed && carrier.may_begin_again() && context.attempts.broke_off(&circuit.key, &circuit.balancer, how, broken)
}

/// What to answer; nothing if the client has gone.
fn blame(broken: &Broken, circuit: &LiveCircuit, context: &mut RequestContext) -> Option<Refused> {
    context.recording.fail(broken);
    let (fault, problem) = match broken {
        Broken::ClientGone => {
            context.recording.end(EndedBy::Client, Some(Fault::Client));
            return None;
        }
        Broken::ClientContent(_) => return Some(Refused::new(Problem::BadContent, "content")),
        Broken::ContentTimeout => return Some(Refused::new(Problem::BodyTimeout, "content")),
        Broken::WriteTimeout(what) => return Some(Refused::new(Problem::WriteTimeout, *what)),
        Broken::AnswerTimeout => (TargetFault::Timeout, Problem::TargetTimeout),
        Broken::TargetClosed(_) | Broken::Answer(_) | Broken::AnswerContent(_) | Broken::NothingFinal => {
            (TargetFault::Broken, Problem::TargetUnreachable)
        }
    };
    circuit.balancer.note_fault(fault);
    let (request, key, reason) = (context.id(), &circuit.key, fault.as_str());
    tracing::warn!(%request, %key, error = %broken, fault = "target", reason, "target broke off");
    Some(Refused::new(problem, broken.to_string()))
}

/// Turns a request away that was let in. What its client still sends is not read as another one.
async fn refuse(client: &mut ClientStream, refused: Refused, asked: &Asked, mut context: Box<RequestContext>) -> Next {
    let reply = reply_to(refused, asked, &mut context);
    answer(client, reply.closing(), asked, false, context).await
}

/// The answer to a request that is turned away, which is noted.
fn reply_to(mut refused: Refused, asked: &Asked, context: &mut RequestContext) -> Reply {
    let (problem, instead) = (refused.problem, refused.instead.take());
    context.recording.refuse(refused);
    let reply = instead.map_or_else(|| problem.reply(asked.wants_html, context.id()), |reply| *reply);
    if context.must_close_for(problem) { reply.closing() } else { reply }
}

/// Answers by the edge itself.
async fn answer(
    client: &mut ClientStream,
    reply: Reply,
    asked: &Asked,
    may_keep: bool,
    mut context: Box<RequestContext>,
) -> Next {
    // Content that nobody has read would be read as the next request.
    let keeps = may_keep && asked.keeps && !reply.must_close && asked.content == Framing::None;
    context.recording.status = Some(reply.status.as_u16());
    if !asked.is_head {
        context.recording.bytes_to_client += reply.body.len() as u64;
    }
    let bytes = reply.http1(context.id(), asked.is_head, keeps);
    let written = timeout(crate::reply::WRITE_TIME, send(client, &bytes)).await;
    // It has ended, however long the connection lingers.
    drop(context);
    match written {
        Ok(Ok(())) if keeps => Next::Request,
        Ok(Ok(())) => finish(client).await,
        _ => Next::End,
    }
}

/// Ends a connection whose client may still be sending: a reset would take away what it has not read yet.
async fn finish(client: &mut ClientStream) -> Next {
    // Boxed: most connections are ended by their clients.
    Box::pin(linger(client)).await;
    Next::End
}
