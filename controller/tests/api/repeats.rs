//! Answers that a caller has already, requests that come twice, and lists in pages: by the headers
//! of HTTP, as any program sends them.

use overlan_protocol::api::{LoginResponse, NetworkRequest, NetworkSummary, path};
use overlan_protocol::key::Secret;
use serde_json::Value;

use crate::http::exchange;
use crate::lab::{Lab, WITHIN};

/// An answer: its status, its head, and its body.
struct Heard {
    status: u16,
    head: String,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends a request of the owner with further headers.
async fn send(
    lab: &Lab,
    owner: &LoginResponse,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Heard {
    let mut request = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        owner.session.reveal(),
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let request = format!("{request}\r\n{body}");
    let answer = exchange(lab, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Heard {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

async fn network(lab: &Lab, owner: &LoginResponse, name: &str) {
    let name = name.to_owned();
    let mut person = lab.person(owner).await;
    let _: NetworkSummary = person
        .post(path::NETWORKS, &NetworkRequest { name }, WITHIN)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_answer_that_the_caller_has_comes_without_a_body_until_it_changes() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let line = format!("GET {}", path::NETWORKS);
    let first = send(&lab, &owner, &line, &[], "").await;
    assert_eq!(first.status, 200);
    let tag = first.header("etag").unwrap();
    let known = [("if-none-match", tag)];
    let again = send(&lab, &owner, &line, &known, "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.header("etag"), Some(tag));
    network(&lab, &owner, "acme").await;
    let changed = send(&lab, &owner, &line, &known, "").await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag));
    // Nobody gets 304 who may not know that there is something.
    let stranger = LoginResponse {
        session: Secret::new("ovs_x"),
        ..owner
    };
    let refused = send(&lab, &stranger, &line, &[("if-none-match", "*")], "").await;
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let line = format!("POST {}", path::AUTH_KEYS);
    let key = [("idempotency-key", "b2e1f0")];
    let first = send(&lab, &owner, &line, &key, "{}").await;
    let again = send(&lab, &owner, &line, &key, "{}").await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.body, again.body, "the same secret");
    let other = send(&lab, &owner, &line, &key, r#"{"reusable":true}"#).await;
    assert_eq!(other.status, 409, "{}", other.body);
    assert_eq!(other.json()["type"], "conflict");
    let list = format!("GET {}", path::AUTH_KEYS);
    let listed = send(&lab, &owner, &list, &[], "").await;
    assert_eq!(listed.json().as_array().unwrap().len(), 1);

    // What was refused is tried again.
    let line = format!("POST {}", path::NETWORKS);
    let key = [("idempotency-key", "another")];
    let body = r#"{"name":"demo"}"#;
    assert_eq!(send(&lab, &owner, &line, &key, body).await.status, 409);
    assert_eq!(send(&lab, &owner, &line, &key, body).await.status, 409);
    let body = r#"{"name":"acme"}"#;
    assert_eq!(send(&lab, &owner, &line, &key, body).await.status, 200);
    let long = "x".repeat(81);
    for wrong in ["", "a,b", &long] {
        let refused = send(&lab, &owner, &line, &[("idempotency-key", wrong)], body).await;
        assert_eq!(refused.status, 400, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_list_comes_in_pages_that_lead_on() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    for name in ["acme", "beta", "zeta"] {
        network(&lab, &owner, name).await;
    }
    let (mut query, mut names) = ("?limit=3".to_owned(), Vec::new());
    for pages in 1.. {
        let line = format!("GET {}{query}", path::NETWORKS);
        let page = send(&lab, &owner, &line, &[], "").await;
        assert_eq!(page.status, 200, "{}", page.body);
        for network in page.json().as_array().unwrap() {
            names.push(network["name"].as_str().unwrap().to_owned());
        }
        let Some(next) = page.header("link") else {
            assert_eq!(pages, 2);
            break;
        };
        let next = next.strip_suffix(r#">; rel="next""#).unwrap();
        query = next.strip_prefix('<').unwrap().to_owned();
    }
    assert_eq!(names, ["acme", "beta", "demo", "zeta"]);
    for (query, status) in [
        ("?limit=0", 400),
        ("?limit=1001", 400),
        ("?limit=many", 400),
        ("?pages=2", 400),
        ("?after=nothing", 404),
    ] {
        let line = format!("GET {}{query}", path::NETWORKS);
        let refused = send(&lab, &owner, &line, &[], "").await;
        assert_eq!(refused.status, status, "{query}");
    }
}
