use overlan_protocol::ALPN_CONTROLLER;
use overlan_protocol::api::{
    PROBLEM_TYPE, Problem, ProblemKind, REQUEST_MAX, TicketResponse, path,
};
use overlan_protocol::proof::{ChannelProof, Principal};
use overlan_transport::connect::direct;
use overlan_transport::tls::{ServerTrust, client_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::lab::{Lab, WITHIN};

/// Sends bytes on a connection of its own and reads all that comes back.
pub(crate) async fn exchange(lab: &Lab, request: &[u8]) -> String {
    let trust = ServerTrust::DeploymentCa(vec![lab.join.ca.unwrap()]);
    let config = client_config(&trust, ALPN_CONTROLLER);
    let mut stream = direct(&lab.join.server, config, WITHIN).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = timeout(WITHIN, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8(answer).unwrap()
}

fn request(method: &str, path: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn problem(answer: &str) -> Problem {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let content_type = format!("content-type: {PROBLEM_TYPE}");
    assert!(head.lines().any(|line| line == content_type), "{head}");
    let problem: Problem = serde_json::from_str(body).unwrap();
    let status = format!("HTTP/1.1 {}", problem.status);
    assert!(head.starts_with(&status), "{head}");
    problem
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let lab = Lab::start().await;
    let json = "application/json";
    let login = r#"{"email":"a@b.example","password":"x"}"#;
    let unknown_field = r#"{"email":"a@b.example","password":"x","admin":true}"#;
    let too_long = format!(r#"{{"email":"{}"}}"#, "x".repeat(REQUEST_MAX));
    let key = format!("{}/x", path::AUTH_KEYS);
    for (method, path, content_type, body, status) in [
        ("GET", "/", json, "", 404),
        ("GET", "/api/v1/nothing", json, "", 404),
        ("PUT", path::LOGIN, json, login, 405),
        ("GET", path::LOGIN, json, "", 405),
        ("POST", path::LOGIN, "text/plain", login, 415),
        (
            "POST",
            path::LOGIN,
            "application/json; charset=utf-8",
            login,
            415,
        ),
        ("POST", path::LOGIN, json, unknown_field, 400),
        ("POST", path::LOGIN, json, "{", 400),
        ("POST", path::LOGIN, json, "", 400),
        ("POST", path::LOGIN, json, &too_long, 413),
        ("POST", path::LOGIN, json, login, 401),
        ("GET", path::NETWORKS, json, "", 401),
        ("GET", path::DEVICES, json, "", 401),
        ("GET", path::RELAYS, json, "", 401),
        ("GET", path::AUTH_KEYS, json, "", 401),
        ("POST", path::AUTH_KEYS, json, "{", 401),
        ("DELETE", &key, json, "", 401),
        ("POST", path::RELAY_TOKENS, json, "{", 401),
        ("DELETE", path::SESSION, json, "", 401),
        ("POST", path::DEVICE_TICKET, json, "{", 401),
        ("GET", path::DEVICE_NETMAP, json, "", 401),
        ("POST", path::DEVICE_REPORT, json, "{", 401),
        ("DELETE", path::DEVICE, json, "", 401),
        ("POST", path::RELAY_HEARTBEAT, json, "{", 401),
        ("POST", path::ENROL, json, "{}", 400),
        ("POST", path::RELAY_REGISTER, json, "{}", 400),
    ] {
        let answer = exchange(&lab, &request(method, path, content_type, body)).await;
        let problem = problem(&answer);
        assert_eq!(problem.status, status, "{method} {path} {answer}");
        assert!(!problem.title.is_empty());
        assert_ne!(problem.kind, ProblemKind::Other);
    }
}

#[tokio::test]
async fn a_secret_in_a_bad_body_does_not_come_back() {
    let lab = Lab::start().await;
    let body = r#"{"email":"a@b.example","password":"x","hunter2":"hunter2"}"#;
    let answer = exchange(
        &lab,
        &request("POST", path::LOGIN, "application/json", body),
    )
    .await;
    assert_eq!(problem(&answer).kind, ProblemKind::BadRequest);
    assert!(!answer.contains("hunter2"), "{answer}");
}

#[tokio::test]
async fn a_huge_header_ends_the_connection() {
    let lab = Lab::start().await;
    let padding = "x".repeat(17 * 1024);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx-padding: {padding}\r\n\r\n");
    let answer = exchange(&lab, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_captured_proof_is_worth_nothing_on_another_connection() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let device = lab.enrol(&key, "web").await;
    let mut own = device.connect(&lab).await;
    let principal = Principal::Device(device.id());
    let proof = ChannelProof::sign(principal, &device.secret, own.exporter());
    let _: TicketResponse = own
        .post(path::DEVICE_TICKET, &serde_json::json!({}), WITHIN)
        .await
        .unwrap();
    let replay = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        path::DEVICE_TICKET,
        proof.to_header()
    );
    let answer = exchange(&lab, replay.as_bytes()).await;
    assert_eq!(problem(&answer).kind, ProblemKind::NotAuthenticated);
}

#[tokio::test]
async fn the_operators_door_counts_and_says_how_it_does() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let device = lab.enrol(&key, "web").await;
    let _stream = device.stream(&lab).await;
    let metrics = lab.operator("/metrics").await;
    for line in [
        "overlan_controller_can_write 1",
        "overlan_controller_devices 1",
        "overlan_controller_networks 1",
        "overlan_controller_connections{holder=\"devices\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    for path in ["/healthz", "/readyz"] {
        let answer = lab.operator(path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    for path in ["/", "/metrics/x", "/api/v1/devices"] {
        let answer = lab.operator(path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}
