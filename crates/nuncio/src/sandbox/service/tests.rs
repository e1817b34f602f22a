use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn instance() -> Instance {
    let identity = Identity { name: "1".into(), hostname: "service1-1".into() };
    Instance::start(identity, ([127, 0, 0, 1], 0).into()).await.expect("an instance")
}

/// Everything an instance sends back for raw requests on one connection, the last of which closes it.
async fn exchange(address: SocketAddr, requests: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(requests.as_bytes()).await.expect("sent");
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("in time").expect("an answer");
    String::from_utf8(all).expect("text")
}

async fn get(path: &str) -> String {
    let instance = instance().await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    exchange(instance.address(), &request).await
}

/// Status and body of an answer.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (&head[9..12], body)
}

#[tokio::test]
async fn says_hello() {
    let hello = "Hello from behind Nuncio (service 1)! hostname service1-1 resolved 127.0.0.1\n";
    assert_eq!(parts(&get("/service/1").await), ("200", hello));
    assert_eq!(parts(&get("/service/1?a=b").await), ("200", hello));
    for path in ["/service/2", "/service/12", "/service/", "/", "/nothing", "/status", "/echo/x"] {
        assert_eq!(parts(&get(path).await).0, "404", "{path}");
    }
}

#[tokio::test]
async fn statuses() {
    assert_eq!(parts(&get("/status/503").await), ("503", "503 Service Unavailable\n"));
    assert_eq!(parts(&get("/service/1/status/204").await), ("204", ""));
    for wrong in ["100", "600", "x", ""] {
        assert_eq!(parts(&get(&format!("/status/{wrong}")).await).0, "400", "{wrong}");
    }
}

#[tokio::test]
async fn delays() {
    let start = std::time::Instant::now();
    assert_eq!(parts(&get("/delay/60ms").await), ("200", "waited 60ms\n"));
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(parts(&get("/delay/601s").await).0, "400");
    assert_eq!(parts(&get("/delay/5").await).0, "400");
}

#[tokio::test]
async fn bytes_with_length_and_in_chunks() {
    let known = get("/bytes/20000").await;
    assert!(known.contains("\r\ncontent-length: 20000\r\n"), "{known}");
    let body = parts(&known).1;
    assert_eq!(body.len(), 20_000);
    assert!(body.bytes().enumerate().all(|(i, b)| b == b'a' + (i % 26) as u8));

    let chunked = get("/chunked/3").await;
    assert!(chunked.contains("\r\ntransfer-encoding: chunked\r\n"), "{chunked}");
    assert_eq!(parts(&chunked).1, "3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(parts(&get("/bytes/-1").await).0, "400");
}

#[tokio::test]
async fn headers_as_json() {
    let answer = get("/service/1/headers?q").await;
    let shown: serde_json::Value = serde_json::from_str(parts(&answer).1).expect("JSON");
    let expected = serde_json::json!({
        "method": "GET", "path": "/service/1/headers?q", "version": "HTTP/1.1",
        "headers": [["host", "x"], ["connection", "close"]],
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn echoes_bodies_and_keeps_the_connection() {
    let instance = instance().await;
    let requests = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello\
        POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
        GET /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = exchange(instance.address(), requests).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert!(answers.contains("content-length: 5\r\n"), "{answers}");
    assert!(answers.contains("\r\n\r\nhello"), "{answers}");
    assert!(answers.contains("2\r\nhi\r\n0\r\n\r\n"), "{answers}");
    assert!(answers.contains("HTTP/1.1 405 Method Not Allowed\r\n"), "{answers}");
}

#[tokio::test]
async fn stop_lets_requests_end() {
    let instance = instance().await;
    let address = instance.address();
    let mut idle = TcpStream::connect(address).await.expect("a connection");
    let request = "GET /delay/300ms HTTP/1.1\r\nhost: x\r\n\r\n";
    let busy = tokio::spawn(async move { exchange(address, request).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    instance.stop().await;
    let answer = busy.await.expect("an answer");
    assert_eq!(parts(&answer), ("200", "waited 300ms\n"));
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(idle.read(&mut [0; 1]).await.expect("an end"), 0);
    assert!(TcpStream::connect(address).await.is_err());
}
