//! The log says who changed what, by the names that people use, also of what is gone by then.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use overlan_protocol::api::dns::{DnsRecordRequest, DnsRecordSummary};
use overlan_protocol::api::{
    AuthKeyRequest, LoginRequest, LoginResponse, MemberRequest, MembershipSummary, NetworkRequest,
    NetworkSummary, ProblemKind, path,
};
use overlan_protocol::key::Secret;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::lab::{EMAIL, Lab, PASSWORD, WITHIN, refused};

/// What was logged at info and above, a line each: the message, then fields.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

impl Subscriber for Written {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl Written {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Whether one line has all of these.
    fn says(&self, words: &[&str]) {
        let lines = self.lines();
        let said = lines
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(said, "{words:?} in\n{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn the_log_says_who_changed_what_by_name() {
    let written = Written::default();
    // With one subscriber alone, a place that another test's thread reaches first would be taken
    // for one that nobody listens to.
    let _second = tracing::Dispatch::new(written.clone());
    // One thread runs the whole test, the controller too.
    let _guard = tracing::subscriber::set_default(written.clone());

    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    written.says(&["changed", EMAIL]);
    let request = AuthKeyRequest {
        reusable: true,
        note: "anna's laptops".to_owned(),
        ..AuthKeyRequest::default()
    };
    let key = lab.auth_key(&owner, request).await;
    let web = lab.enrol(&key.key, "web").await;
    written.says(&["enrolled device web.demo", "anna's laptops"]);
    lab.relay(&owner, "ams-1", 4_430).await;
    written.says(&["registered relay ams-1"]);

    let mut person = lab.person(&owner).await;
    let by = format!("by=\"{EMAIL}\"");
    let request = NetworkRequest {
        name: "acme".to_owned(),
    };
    let _: NetworkSummary = person.post(path::NETWORKS, &request, WITHIN).await.unwrap();
    written.says(&[&by, "made network acme"]);
    let request = MemberRequest { device: web.id() };
    let members = format!("{}/acme/devices", path::NETWORKS);
    let _: MembershipSummary = person.post(&members, &request, WITHIN).await.unwrap();
    written.says(&[&by, "put device web into network acme"]);
    let request = DnsRecordRequest {
        network: "demo".to_owned(),
        name: "wiki".to_owned(),
        kind: "CNAME".to_owned(),
        value: "web.demo.overlan.lan".to_owned(),
    };
    let _: DnsRecordSummary = person
        .post(path::DNS_RECORDS, &request, WITHIN)
        .await
        .unwrap();
    written.says(&[&by, "added record wiki.demo.overlan.lan"]);

    // What is gone has no id that anybody could look up.
    for (gone, said) in [
        (
            format!("{members}/{}", web.id()),
            "took device web.acme out of network acme",
        ),
        (
            format!("{}/{}", path::DEVICES, web.id()),
            "removed device web.demo",
        ),
        (format!("{}/acme", path::NETWORKS), "removed network acme"),
        (format!("{}/ams-1", path::RELAYS), "removed relay ams-1"),
        (
            format!("{}/{}", path::AUTH_KEYS, key.summary.id),
            "(anna's laptops)",
        ),
    ] {
        person.delete(&gone, WITHIN).await.unwrap();
        written.says(&[&by, said]);
    }

    // A password that does not fit, and who is told so; no password, and no email that nobody has.
    let wrong = "not the password, certainly";
    for email in [EMAIL, "stranger@example.org"] {
        let request = LoginRequest {
            email: email.to_owned(),
            password: Secret::new(wrong),
        };
        let mut connection = lab.connect().await;
        let told = connection
            .post::<_, LoginResponse>(path::LOGIN, &request, WITHIN)
            .await;
        assert_eq!(refused(told), ProblemKind::WrongPassword);
    }
    written.says(&["a login failed", EMAIL, "127.0.0.1"]);
    let request = LoginRequest {
        email: EMAIL.to_owned(),
        password: Secret::new(PASSWORD),
    };
    let mut connection = lab.connect().await;
    let _: LoginResponse = connection
        .post(path::LOGIN, &request, WITHIN)
        .await
        .unwrap();
    written.says(&["logged in from 127.0.0.1", EMAIL]);

    let lines = written.lines();
    let failed = lines.iter().filter(|line| line.contains("a login failed"));
    assert_eq!(
        failed.count(),
        1,
        "a stranger cannot fill the disk by made-up emails"
    );
    for secret in [wrong, PASSWORD, key.key.reveal(), "stranger@example.org"] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{secret}");
    }
}
