//! How streams of HTTP/2 end, and connections that are ended for what they bring.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use entities::circuit::{Backend, Circuit};
use entities::target::Target;
use h2::Reason;
use http::Request;
use testkit::frames::{FrameClient, INITIAL_WINDOW_SIZE, block, flag, frame, kind};
use testkit::http2::{Http2Client, Http2Origin, get};
use testkit::origin::Origin;
use testkit::raw::connect_from;
use testkit::wait::{wait_until, within};

use super::{SECRET, case, provoke, start_with};
use crate::harness::{TestEdge, at};
use crate::http2::by_http2;

const WHOLE_HEAD: u8 = flag::END_HEADERS | flag::END_STREAM;

/// A connection of HTTP/2 from `from` to a circuit with these targets.
async fn connected(
    from: IpAddr,
    edge: &TestEdge,
    name: &str,
    targets: Vec<Target>,
    change: impl FnOnce(&mut Circuit),
) -> Http2Client {
    Http2Client::over(connect_from(from, at(served(edge, name, targets, change).await)).await).await
}

/// The same, frame by frame.
async fn framed(from: IpAddr, edge: &TestEdge, name: &str, origin: &Http2Origin, window: u32) -> FrameClient {
    let port = served(edge, name, vec![origin.target()], |_| {}).await;
    FrameClient::over(connect_from(from, at(port)).await, &[(INITIAL_WINDOW_SIZE, window)]).await
}

async fn served(edge: &TestEdge, name: &str, targets: Vec<Target>, change: impl FnOnce(&mut Circuit)) -> u16 {
    let (mut circuit, port) = by_http2(name, targets);
    change(&mut circuit);
    edge.serve(&circuit).await;
    port
}

fn head(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, WHOLE_HEAD, stream, &testkit::frames::get(path))
}

async fn wait_for_requests(origin: &Http2Origin, count: usize) {
    wait_until("the requests", async || origin.requests().len() == count).await;
}

#[tokio::test]
async fn a_stream_has_one_record_whoever_ends_it() {
    let edge = start_with(|config| config.client.write = Duration::from_secs(1)).await;
    let provoked = provoke(vec![
        case("whole", &["http2 GET /x 200 whole finished - 0/5 0"], async |from| {
            let origin = Http2Origin::start("whole").await;
            let mut client = connected(from, &edge, "whole", vec![origin.target()], |_| {}).await;
            client.ask(get(&format!("/x?{SECRET}"))).await.expect("answered");
            (client, origin)
        }),
        case("content both ways and trailers", &["http2 POST /echo 200 echo finished - 3/3 0"], async |from| {
            let origin = Http2Origin::start("echo").await;
            let mut client = connected(from, &edge, "echo", vec![origin.target()], |_| {}).await;
            let post = Request::post("http://app.test/echo").body(()).expect("valid");
            let (answer, mut writer) = client.begin(post, false).await.expect("a stream");
            writer.send_data(Bytes::from_static(b"abc"), true).expect("open");
            Http2Client::read(answer).await.expect("answered");
            (client, origin)
        }),
        case("the target resets", &["http2 GET /reset 200 resets target target 5/4 0"], async |from| {
            let origin = Http2Origin::start("resets").await;
            let mut client = connected(from, &edge, "resets", vec![origin.target()], |_| {}).await;
            let (answer, mut writer) = client.begin(get("/reset"), false).await.expect("a stream");
            let mut content = within("the head", answer).await.expect("answered").into_body();
            within("the part", content.data()).await.expect("open").expect("no error");
            writer.send_data(Bytes::from_static(b"go on"), false).expect("open");
            within("the reset", content.data()).await.expect("an error").expect_err("reset");
            (client, origin)
        }),
        case("the target is silent", &["http2 GET /hold 504 silent target target 0/* 0"], async |from| {
            let origin = Http2Origin::start("silent").await;
            let limit = |circuit: &mut Circuit| circuit.traffic.timeouts.first_byte_ms = Some(100);
            let mut client = connected(from, &edge, "silent", vec![origin.target()], limit).await;
            client.ask(get("/hold")).await.expect("answered");
            (client, origin)
        }),
        case("the client resets", &["http2 GET /hold - cancelled client client 0/0 0"], async |from| {
            let origin = Http2Origin::start("cancelled").await;
            let mut client = connected(from, &edge, "cancelled", vec![origin.target()], |_| {}).await;
            let (_answer, mut writer) = client.begin(get("/hold"), false).await.expect("a stream");
            wait_for_requests(&origin, 1).await;
            writer.send_reset(Reason::CANCEL);
            (client, origin)
        }),
        case(
            "the client goes with two streams open",
            &["http2 GET /hold - gone client client 0/0 0", "http2 GET /hold - gone client client 0/0 0"],
            async |from| {
                let origin = Http2Origin::start("gone").await;
                let mut client = framed(from, &edge, "gone", &origin, 65_535).await;
                client.send(&[head(1, "/hold"), head(3, "/hold")].concat()).await;
                wait_for_requests(&origin, 2).await;
                drop(client);
                origin
            },
        ),
        case(
            "content that is shorter than it says",
            &["http2 POST /echo 200 short client client 0/0 0"],
            async |from| {
                let origin = Http2Origin::start("short").await;
                let mut client = framed(from, &edge, "short", &origin, 65_535).await;
                let fields: [(&[u8], &[u8]); 5] = [
                    (b":method", b"POST"),
                    (b":scheme", b"http"),
                    (b":authority", b"app.test"),
                    (b":path", b"/echo"),
                    (b"content-length", b"5"),
                ];
                client.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&fields))).await;
                wait_for_requests(&origin, 1).await;
                client.send(&frame(kind::DATA, flag::END_STREAM, 1, b"abc")).await;
                client.wait_for(kind::RST_STREAM).await.expect("a reset");
                (client, origin)
            },
        ),
        case("never a stream", &[], async |from| {
            let origin = Http2Origin::start("never").await;
            let mut client = framed(from, &edge, "never", &origin, 65_535).await;
            client.wait_for(kind::SETTINGS).await.expect("the edge's own");
        }),
        case("an answer that is not taken", &["http2 GET /large 200 large client client 0/* 0"], async |from| {
            let origin = Origin::start("large").await;
            let body = vec![b'a'; 8 * 1024 * 1024];
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            origin.answer("/large", &[answer.into_bytes(), body].concat());
            let by_http1 = |circuit: &mut Circuit| circuit.backend = Backend::Http;
            let port = served(&edge, "large", vec![origin.target()], by_http1).await;
            let mut client = FrameClient::over(connect_from(from, at(port)).await, &[]).await;
            client.send(&head(1, "/large")).await;
            client.wait_for(kind::RST_STREAM).await.expect("a reset");
            (client, origin)
        }),
    ]);
    provoked.await.prove(edge).await;
}

#[tokio::test]
async fn a_stream_that_is_turned_away_has_one_record() {
    let edge = start_with(|_| {}).await;
    let provoked = provoke(vec![
        case("no target", &["http2 GET / 503 empty refused target 0/* 0"], async |from| {
            let mut client = connected(from, &edge, "empty", vec![], |_| {}).await;
            client.ask(get("/")).await.expect("answered");
            client
        }),
        case("a call of gRPC without a target", &["http2 POST /call 200 calls refused target 0/0 0"], async |from| {
            let mut client = connected(from, &edge, "calls", vec![], |_| {}).await;
            let call = Request::post("http://app.test/call").header("content-type", "application/grpc");
            let call = call.body(()).expect("valid");
            assert_eq!(client.ask(call).await.expect("answered").headers["grpc-status"], "14");
            client
        }),
        case("a malformed field", &["http2 GET / 400 - refused client 0/* 0"], async |from| {
            let mut client = connected(from, &edge, "field", vec![], |_| {}).await;
            let request = Request::get("http://app.test/").header("x", " y").body(()).expect("valid");
            assert_eq!(client.ask(request).await.expect("answered").status, 400);
            client
        }),
        case("two names for the host", &["http2 - - - - refused client 0/0 0"], async |from| {
            let mut client = connected(from, &edge, "hosts", vec![], |_| {}).await;
            let request = Request::get("http://app.test/").header("host", "other.test").body(()).expect("valid");
            assert_eq!(client.ask(request).await.expect("answered").status, 400);
            client
        }),
        case("CONNECT", &["http2 - - * - refused client 0/* 0"], async |from| {
            let origin = Http2Origin::start("connect").await;
            let mut client = framed(from, &edge, "connect", &origin, 65_535).await;
            let connect = block(&[(b":method", b"CONNECT"), (b":authority", b"a.test:1")]);
            client.send(&frame(kind::HEADERS, WHOLE_HEAD, 1, &connect)).await;
            assert!(client.wait_for(kind::HEADERS).await.is_some());
            (client, origin)
        }),
        case(
            "one stream too many",
            &["http2 - - - - refused client 0/0 0", "http2 GET /hold - tiny client client 0/0 0"],
            async |from| {
                let origin = Http2Origin::start("tiny").await;
                let mut client = framed(from, &edge, "tiny", &origin, 1).await;
                client.send(&head(1, "/hold")).await;
                wait_for_requests(&origin, 1).await;
                client.send(&head(3, "/hold")).await;
                assert_eq!(client.wait_for(kind::RST_STREAM).await.expect("a reset").stream, 3);
                origin
            },
        ),
        case("a flood", &["http2 - - - - refused client 0/0 0"], async |from| {
            let origin = Http2Origin::start("flood").await;
            let mut client = framed(from, &edge, "flood", &origin, 65_535).await;
            flood(&mut client).await;
        }),
        case("what is no frame", &["http2 - - - - refused client 0/0 0"], async |from| {
            let origin = Http2Origin::start("garbage").await;
            let mut client = framed(from, &edge, "garbage", &origin, 65_535).await;
            // SETTINGS on a stream (RFC 9113 §6.5).
            client.send(&frame(kind::SETTINGS, 0, 1, &[])).await;
            assert_eq!(client.wait_for_goaway().await, Some(1), "PROTOCOL_ERROR");
        }),
        case(
            "a flood beside a stream",
            &["http2 - - - - refused client 0/0 0", "http2 GET /hold - beside client client 0/0 0"],
            async |from| {
                let origin = Http2Origin::start("beside").await;
                let mut client = framed(from, &edge, "beside", &origin, 65_535).await;
                client.send(&head(1, "/hold")).await;
                wait_for_requests(&origin, 1).await;
                flood(&mut client).await;
            },
        ),
    ]);
    provoked.await.prove(edge).await;
}

/// Sends pings until the edge has had enough.
async fn flood(client: &mut FrameClient) {
    for number in 0..3_000_u64 {
        if !client.send(&frame(kind::PING, 0, 0, &number.to_be_bytes())).await {
            break;
        }
    }
    assert_eq!(client.wait_for_goaway().await, Some(11), "ENHANCE_YOUR_CALM");
}
