//! The log says who changed what, by the names that people use, also of what is gone by then.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use overlan_protocol::api::dns::{DnsRecordRequest, DnsRecordSummary};
use overlan_protocol::api::{
    AuthKeyRequest, JoinRequest, LoginRequest, LoginResponse, MemberRequest, MembershipSummary,
    NetworkRequest, NetworkSummary, ProblemKind, path,
};
use overlan_protocol::key::Secret;
use tracing::Level;

use crate::lab::{EMAIL, Lab, PASSWORD, WITHIN, refused};

/// The lines that were logged at info and above, each with the spans around it.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn lines(&self) -> Vec<String> {
        let text = self.0.lock().unwrap();
        let text = String::from_utf8_lossy(&text);
        text.lines().map(str::to_owned).collect()
    }

    /// Asserts that one line has all of these.
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
    let subscriber = || {
        let written = written.clone();
        let lines = tracing_subscriber::fmt().with_max_level(Level::INFO);
        lines.with_writer(move || written.clone()).finish()
    };
    let _second = tracing::Dispatch::new(subscriber());
    // One thread runs the whole test, the controller too.
    let _guard = tracing::subscriber::set_default(subscriber());

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
    // The spans say whose connection it is, and of which network it speaks.
    let connection = format!("connection{{from=127.0.0.1 person=\"{EMAIL}\"}}");
    let network = "network=\"acme\"";
    written.says(&[&connection, "request{path=", network, "put device web"]);
    let request = JoinRequest {
        network: "acme".to_owned(),
    };
    let mut device = web.connect(&lab).await;
    let _: MembershipSummary = device
        .post(path::DEVICE_NETWORKS, &request, WITHIN)
        .await
        .unwrap();
    let left = format!("{}/acme", path::DEVICE_NETWORKS);
    device.delete(&left, WITHIN).await.unwrap();
    written.says(&["device=\"web\"", network, "left network acme"]);
    let _: MembershipSummary = device
        .post(path::DEVICE_NETWORKS, &request, WITHIN)
        .await
        .unwrap();
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

    // A wrong password is logged with its account; no password is, and no unknown email.
    let wrong = "not the password, certainly";
    for email in [EMAIL, "stranger@example.org"] {
        let request = LoginRequest {
            email: email.to_owned(),
            password: Secret::new(wrong),
            organisation: None,
        };
        let mut connection = lab.connect().await;
        let answer = connection
            .post::<_, LoginResponse>(path::LOGIN, &request, WITHIN)
            .await;
        assert_eq!(refused(answer), ProblemKind::WrongPassword);
    }
    written.says(&["a login failed", EMAIL, "127.0.0.1"]);
    let request = LoginRequest {
        email: EMAIL.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: None,
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
