//! Clients of HTTP/2 that tire the edge with what the protocol allows.

use std::time::{Duration, Instant};

use testkit::frames::{Frame, FrameClient, INITIAL_WINDOW_SIZE, block, flag, frame, get, kind, setting};
use testkit::http2::{Http2Client, Http2Origin};
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::wait::wait_until;

use crate::harness::{TestEdge, at, by_port};
use crate::http2::by_http2;

const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ABUSE: &str = "appproxy_edge_refusals_total{reason=\"http2_abuse\"}";
const HEADERS: u8 = flag::END_HEADERS | flag::END_STREAM;

/// An edge with an origin behind a port of HTTP/2.
async fn served() -> (TestEdge, Http2Origin, u16) {
    let (edge, origin) = (TestEdge::start().await, Http2Origin::start("lab").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    (edge, origin, port)
}

/// Sends the same bytes until the edge has had enough, or `times` times, and says what its GOAWAY says.
async fn flood(port: u16, times: usize, mut bytes: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let mut client = FrameClient::connect(at(port), &[]).await;
    for number in 0..times {
        if !client.send(&bytes(number as u32)).await {
            break;
        }
    }
    client.wait_for_goaway().await
}

/// The same, and another client is served as ever.
async fn assert_is_cut_off(edge: &TestEdge, port: u16, times: usize, bytes: impl FnMut(u32) -> Vec<u8>) {
    let before = edge.metric(ABUSE).await;
    assert_eq!(flood(port, times, bytes).await, Some(ENHANCE_YOUR_CALM));
    let mut client = Http2Client::connect(at(port)).await;
    assert_eq!(client.ask(testkit::http2::get("/")).await.expect("answered").body, "lab");
    assert_eq!(edge.metric(ABUSE).await, before + 1.0);
}

#[tokio::test]
async fn floods_of_pings_settings_priorities_and_windows_are_cut_off() {
    let (edge, _origin, port) = served().await;
    assert_is_cut_off(&edge, port, 3_000, |number| frame(kind::PING, 0, 0, &u64::from(number).to_be_bytes())).await;
    assert_is_cut_off(&edge, port, 3_000, |_| frame(kind::SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, 65_535))).await;
    assert_is_cut_off(&edge, port, 3_000, |_| frame(kind::SETTINGS, 0, 0, &[])).await;
    assert_is_cut_off(&edge, port, 3_000, |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])).await;
    assert_is_cut_off(&edge, port, 3_000, |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
    assert_is_cut_off(&edge, port, 3_000, |_| frame(0x42, 0, 0, &[])).await;
}

#[tokio::test]
async fn what_h2_limits_by_itself_is_cut_off_as_well() {
    let (_edge, origin, port) = served().await;
    let open = |stream: u32, flags: u8| frame(kind::HEADERS, flags, stream, &get("/hold"));
    // Empty content without end.
    let empty = flood(port, 1_000, |number| match number {
        0 => open(1, flag::END_HEADERS),
        _ => frame(kind::DATA, 0, 1, &[]),
    });
    assert_eq!(empty.await, Some(ENHANCE_YOUR_CALM));
    // A head that goes on and on (CVE-2024-27316).
    let more = block(&[(b"x", b"y")]);
    let endless = flood(port, 1_000, |number| match number {
        0 => open(1, flag::END_STREAM),
        _ => frame(kind::CONTINUATION, 0, 1, &more),
    });
    assert_eq!(endless.await, Some(ENHANCE_YOUR_CALM));
    // A head of half a MiB in few frames.
    let large = block(&[(b"x", &[b'a'; 16_000])]);
    let wide = flood(port, 60, |number| match number {
        0 => open(1, flag::END_STREAM),
        _ => frame(kind::CONTINUATION, 0, 1, &large),
    });
    assert!(matches!(wide.await, Some(ENHANCE_YOUR_CALM | 9)), "9 is COMPRESSION_ERROR");
    // Streams that the edge has to reset because their client breaks the protocol on them (CVE-2025-8671).
    let made = flood(port, 1_000, |number| {
        let stream = 2 * number + 1;
        [open(stream, HEADERS), frame(kind::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
    });
    assert_eq!(made.await, Some(ENHANCE_YOUR_CALM));
    assert!(origin.requests().len() < 400, "{}", origin.requests().len());
}

#[tokio::test]
async fn rapid_resets_are_cut_off_and_grow_nothing() {
    let (edge, origin, port) = served().await;
    let pair = |stream: u32| {
        [frame(kind::HEADERS, HEADERS, stream, &get("/hold")), frame(kind::RST_STREAM, 0, stream, &CANCEL)].concat()
    };
    // All at once: h2 has not accepted most of them.
    assert_is_cut_off_by_anyone(port, 2_000, pair).await;
    // Some at a time, each when the target has it: only the meter sees that.
    let mut client = FrameClient::connect(at(port), &[]).await;
    let before = testkit::memory::resident_kib();
    let mut sent = 0;
    for batch in 0..60_u32 {
        let known = origin.requests().len();
        let streams: Vec<u32> = (0..50).map(|number| 2 * (batch * 50 + number) + 1).collect();
        let opens = streams.iter().map(|stream| frame(kind::HEADERS, HEADERS, *stream, &get("/hold")));
        if !client.send(&opens.collect::<Vec<_>>().concat()).await {
            break;
        }
        let began = Instant::now();
        while origin.requests().len() < known + 50 && began.elapsed() < Duration::from_millis(500) {
            tokio::task::yield_now().await;
        }
        let resets = streams.iter().map(|stream| frame(kind::RST_STREAM, 0, *stream, &CANCEL));
        if !client.send(&resets.collect::<Vec<_>>().concat()).await {
            break;
        }
        sent = (batch + 1) * 50;
    }
    let grown = testkit::memory::resident_kib().saturating_sub(before);
    assert_eq!(client.wait_for_goaway().await, Some(ENHANCE_YOUR_CALM));
    println!("rapid resets: cut off after {sent} streams, {grown} KiB grown with the origin in the same process");
    assert!(edge.metric(ABUSE).await >= 1.0);
    wait_until("every stream at the target to be reset", async || origin.resets().len() == origin.requests().len())
        .await;
}

async fn assert_is_cut_off_by_anyone(port: u16, times: usize, bytes: impl Fn(u32) -> Vec<u8>) {
    assert_eq!(flood(port, times, |number| bytes(2 * number + 1)).await, Some(ENHANCE_YOUR_CALM));
}

/// An edge in front of an origin of HTTP/1 with a large answer.
async fn with_large_answer() -> (TestEdge, Origin, u16) {
    let (edge, origin, port) = (
        TestEdge::start_with(|config| config.client.write = Duration::from_secs(1)).await,
        Origin::start("lab").await,
        free_port(),
    );
    let body = vec![b'a'; 8 * 1024 * 1024];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    origin.answer("/large", &[head.into_bytes(), body].concat());
    let mut circuit = by_port("lab", port, vec![origin.target()]);
    circuit.protocol = entities::circuit::Protocol::H2;
    edge.serve(&circuit).await;
    (edge, origin, port)
}

#[tokio::test]
async fn windows_of_one_byte_are_cut_off_and_get_one_answer_at_a_time() {
    let (edge, origin, port) = with_large_answer().await;
    let mut client = FrameClient::connect(at(port), &[(INITIAL_WINDOW_SIZE, 1)]).await;
    for number in 0..10 {
        assert!(client.send(&frame(kind::HEADERS, HEADERS, 2 * number + 1, &get("/large"))).await);
    }
    let before = testkit::memory::resident_kib();
    let (mut bytes, mut refused) = (0, 0);
    let code = loop {
        let Some(Frame { kind, stream, payload, .. }) = client.next().await else { break None };
        match kind {
            kind::DATA => {
                bytes += payload.len();
                client.send(&frame(kind::WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])).await;
            }
            kind::RST_STREAM => {
                assert_eq!(payload, REFUSED_STREAM.to_be_bytes());
                refused += 1;
            }
            kind::GOAWAY => break payload.get(4..8).map(<[u8]>::to_vec),
            _ => {}
        }
    };
    assert_eq!(code, Some(ENHANCE_YOUR_CALM.to_be_bytes().to_vec()));
    let grown = testkit::memory::resident_kib().saturating_sub(before);
    println!("windows of one byte: cut off after {bytes} bytes, {refused} streams refused, {grown} KiB grown");
    assert_eq!((refused, origin.count("/large")), (9, 1));
    assert!(bytes <= 102, "{bytes}");
    assert_eq!(edge.metric(ABUSE).await, 1.0);
}

#[tokio::test]
async fn a_drip_of_windows_does_not_put_the_end_of_a_stream_off() {
    let (edge, _origin, port) = with_large_answer().await;
    let mut client = FrameClient::connect(at(port), &[(INITIAL_WINDOW_SIZE, 1)]).await;
    assert!(client.send(&frame(kind::HEADERS, HEADERS, 1, &get("/large"))).await);
    let began = Instant::now();
    let reset = loop {
        // Each is in time for the write time limit, and all together are too few to be counted.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send(&frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await;
        if let Some(reset) = within_a_moment(&mut client).await.into_iter().find(|frame| frame.kind == kind::RST_STREAM)
        {
            break reset;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it is not cut off");
    };
    assert_eq!(reset.stream, 1);
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"write_timeout\"}").await, 1.0);
}

/// Frames that come in the next moment.
async fn within_a_moment(client: &mut FrameClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_millis(50), client.next()).await {
        frames.push(frame);
    }
    frames
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_reset_and_its_connection_goes_on() {
    let (edge, _origin, port) = with_large_answer().await;
    let mut client = FrameClient::connect(at(port), &[]).await;
    assert!(client.send(&frame(kind::HEADERS, HEADERS, 1, &get("/large"))).await);
    let reset = client.wait_for(kind::RST_STREAM).await.expect("a reset");
    assert_eq!(reset.stream, 1);
    // The connection's window is shut as well, which a head does not need.
    assert!(client.send(&frame(kind::WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes())).await);
    assert!(client.send(&frame(kind::HEADERS, HEADERS, 3, &get("/"))).await);
    let answer = client.wait_for(kind::HEADERS).await.expect("an answer");
    assert_eq!(answer.stream, 3);
    assert_eq!(edge.metric("appproxy_edge_refusals_total{reason=\"write_timeout\"}").await, 1.0);
}

#[tokio::test]
async fn more_streams_than_are_allowed_are_refused() {
    let (_edge, origin, port) = served().await;
    let mut client = FrameClient::connect(at(port), &[]).await;
    for number in 0..101 {
        assert!(client.send(&frame(kind::HEADERS, HEADERS, 2 * number + 1, &get("/hold"))).await);
    }
    let reset = client.wait_for(kind::RST_STREAM).await.expect("a reset");
    assert_eq!((reset.stream, reset.reset()), (201, Some(REFUSED_STREAM)));
    wait_until("the requests", async || origin.requests().len() == 100).await;
}
