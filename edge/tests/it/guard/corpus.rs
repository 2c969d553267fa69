//! The corpora of malformed messages, sent byte by byte to every kind of listener.

use std::collections::HashSet;
use std::net::SocketAddr;

use edge::guard::{Rule, judge_http1};
use entities::circuit::{Backend, Circuit, Protocol};
use futures_util::{StreamExt as _, stream};
use testkit::corpus::{Case, read};
use testkit::frames::{FrameClient, block, flag, frame, kind};
use testkit::http2::Http2Origin;
use testkit::origin::Origin;
use testkit::ports::free_port;
use testkit::wait::{wait_until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{TestEdge, at, by_host, by_port};
use crate::http2::by_http2;

const HTTP2: &str = include_str!("../../corpus/http2.txt");
const HTTP1: &str = include_str!("../../corpus/http1.txt");

/// Conversations at a time.
const AT_ONCE: usize = 32;

/// Every kind of listener that takes HTTP/1, in front of one origin.
async fn listeners(edge: &TestEdge, origin: &Origin) -> Vec<(&'static str, SocketAddr)> {
    let (plain, http2) = (free_port(), free_port());
    edge.serve(&by_host("lab", vec![origin.target()])).await;
    edge.serve(&by_port("port", plain, vec![origin.target()])).await;
    let circuit = by_port("http2", http2, vec![origin.target()]);
    edge.serve(&Circuit { protocol: Protocol::H2, backend: Backend::Http, ..circuit }).await;
    vec![("traffic", edge.address), ("port", at(plain)), ("http2", at(http2))]
}

/// What comes back, to the end of the connection.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Result<String, std::io::Error> {
    let mut socket = TcpStream::connect(address).await?;
    // The other side may have had enough before all is sent.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    within("the end of the connection", socket.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The head of the first answer.
async fn head_of_answer(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.expect("connects");
    socket.write_all(bytes).await.expect("sends");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|part| part == b"\r\n\r\n") {
        let read = within("an answer", socket.read_buf(&mut answer)).await.expect("no reset");
        assert!(read > 0, "the connection ended without an answer: {}", String::from_utf8_lossy(bytes));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn fault_in(case: &Case, answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let is_right = head.starts_with(&format!("HTTP/1.1 {} ", case.outcome))
        && head.contains("Connection: close")
        && head.contains("Cache-Control: no-store")
        && head.contains("application/problem+json")
        && (body.starts_with('{') || case.bad.starts_with(b"HEAD"));
    (!is_right).then(|| answer.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_malformed_arrives_and_every_valid_twin_does() {
    let (edge, origin) = (TestEdge::start().await, Origin::start("lab").await);
    let listeners = listeners(&edge, &origin).await;
    let cases = read(HTTP1);
    let all: Vec<_> = cases.iter().flat_map(|case| listeners.iter().map(move |listener| (case, *listener))).collect();

    let refused: Vec<String> = stream::iter(&all)
        .map(|(case, (kind, address))| async move {
            let answer = answer_to(*address, &case.bad).await;
            let fault = match &answer {
                Ok(answer) => match fault_in(case, answer) {
                    None if !answer.contains("\r\n\r\n") => Some(answer.clone()),
                    fault => fault,
                },
                Err(error) => Some(error.to_string()),
            };
            fault.map(|fault| format!("line {} ({}) at {kind}: {fault}", case.line, case.rule))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|fault| async move { fault })
        .collect()
        .await;
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert_eq!(String::from_utf8_lossy(&origin.received()), "", "something malformed reached the target");
    let counted = edge.metric("appproxy_edge_refusals_total{reason=\"malformed\"}").await
        + edge.metric("appproxy_edge_refusals_total{reason=\"head_too_large\"}").await;
    assert!((counted - all.len() as f64).abs() < 0.5, "{counted} of {} were counted", all.len());

    let passed: Vec<String> = stream::iter(&all)
        .map(|(case, (kind, address))| async move {
            let head = head_of_answer(*address, &case.good).await;
            (!head.starts_with("HTTP/1.1 2")).then(|| format!("line {} at {kind}: {head}", case.line))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|fault| async move { fault })
        .collect()
        .await;
    assert!(passed.is_empty(), "{}", passed.join("\n"));
    assert_eq!(origin.requests().len(), all.len());
    println!("{} malformed requests, {} rules, {} listeners", cases.len(), Rule::ALL.len(), listeners.len());
}

/// What the edge says to a request of HTTP/2: a status, `reset` or `goaway`.
async fn outcome_of(address: SocketAddr, case: &[u8]) -> String {
    let mut client = FrameClient::connect(address, &[]).await;
    let lines: Vec<&[u8]> = case.split(|byte| *byte == b'\n').collect();
    let content = lines.iter().find_map(|line| line.strip_prefix(b"+"));
    let is_separator = |pair: &[u8]| pair == b": ";
    let fields: Vec<(&[u8], &[u8])> = lines
        .iter()
        .filter(|line| !line.starts_with(b"+"))
        .map(|line| {
            let at = line.windows(2).skip(1).position(is_separator).expect("NAME: VALUE") + 1;
            (&line[..at], &line[at + 2..])
        })
        .collect();
    let head = block(&fields);
    let is_last = if content.is_none() { flag::END_STREAM } else { 0 };
    let mut pieces = head.chunks(16_384).peekable();
    let mut kind = kind::HEADERS;
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
        let flags = if kind == kind::HEADERS { flags | is_last } else { flags };
        client.send(&frame(kind, flags, 1, piece)).await;
        kind = kind::CONTINUATION;
    }
    if let Some(content) = content {
        client.send(&frame(kind::DATA, flag::END_STREAM, 1, content)).await;
    }
    loop {
        let Some(answer) = client.next().await else { return "end".to_owned() };
        match answer.kind {
            kind::HEADERS => return answer.status().map_or("no status".to_owned(), |status| status.to_string()),
            kind::RST_STREAM => return "reset".to_owned(),
            kind::GOAWAY => return "goaway".to_owned(),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_malformed_of_http2_arrives_and_every_valid_twin_does() {
    let (edge, origin, to_http1) =
        (TestEdge::start().await, Http2Origin::start("lab").await, Origin::start("old").await);
    let (circuit, port) = by_http2("lab", vec![origin.target()]);
    edge.serve(&circuit).await;
    let (circuit, old) = by_http2("old", vec![to_http1.target()]);
    edge.serve(&Circuit { backend: Backend::Http, ..circuit }).await;
    let cases = read(HTTP2);
    let all: Vec<_> =
        cases.iter().flat_map(|case| [("http2", at(port)), ("http1", at(old))].map(|to| (case, to))).collect();

    let refused: Vec<String> = stream::iter(&all)
        .map(|(case, (kind, address))| async move {
            let outcome = outcome_of(*address, &case.bad).await;
            (outcome != case.outcome).then(|| format!("line {} ({}) to {kind}: {outcome}", case.line, case.rule))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|fault| async move { fault })
        .collect()
        .await;
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    // What cannot be known from a head is found out before the request is whole.
    assert!(origin.requests().iter().all(|head| head.uri.path() == "/differs"), "{:?}", origin.requests());
    let received = String::from_utf8_lossy(&to_http1.received()).into_owned();
    let others = received.lines().filter(|line| line.ends_with(" HTTP/1.1") && *line != "POST /differs HTTP/1.1");
    assert_eq!(others.count(), 0, "something malformed reached the target: {received}");
    assert!(to_http1.requests().is_empty(), "{:?}", to_http1.requests());

    let passed: Vec<String> = stream::iter(&all)
        .map(|(case, (kind, address))| async move {
            let outcome = outcome_of(*address, &case.good).await;
            (!outcome.starts_with('2')).then(|| format!("line {} to {kind}: {outcome}", case.line))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|fault| async move { fault })
        .collect()
        .await;
    assert!(passed.is_empty(), "{}", passed.join("\n"));
    assert_eq!(to_http1.requests().len(), cases.len());
    // All that came besides was reset, however late.
    wait_until("the twins alone to be whole", async || origin.requests().len() - origin.resets().len() == cases.len())
        .await;
}

#[test]
fn the_corpus_is_large_and_says_what_the_guard_says() {
    let cases = read(HTTP1);
    assert!(cases.len() >= 150, "{}", cases.len());
    let rules: HashSet<_> = cases.iter().map(|case| case.rule.as_str()).collect();
    assert!(rules.len() >= 40, "{}", rules.len());
    for case in &cases {
        let rule = Rule::ALL.into_iter().find(|rule| rule.as_str() == case.rule).expect(&case.rule);
        assert_eq!((rule.status().to_string(), rule.section()), (case.outcome.clone(), case.section.as_str()));
        let head_of = |bytes: &[u8]| {
            let end = bytes.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4);
            bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default().to_vec()
        };
        assert!(judge_http1(&head_of(&case.good)).is_ok(), "line {}: {:?}", case.line, judge_http1(&case.good));
        // Heads that are cut off at their limit, and those that end elsewhere, are judged by what was read.
        if case.bad.ends_with(b"\r\n\r\n")
            && !["bare_lf", "head_length", "version_missing"].contains(&case.rule.as_str())
        {
            let rule = judge_http1(&head_of(&case.bad));
            let is_over = case.bad.len() > edge::guard::MAX_HEAD_BYTES;
            assert!(is_over || rule.is_err_and(|found| found.as_str() == case.rule), "line {}: {rule:?}", case.line);
        }
    }
}
