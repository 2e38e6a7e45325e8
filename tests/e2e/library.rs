//! The library as programs use it: the examples, run as their first lines say, and nodes inside of
//! this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use overlan::{CloseError, DialError, JoinString, ListenError, Node, Secret, UpError};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::forward::Postgres;
use crate::lab::{DOMAIN, Lab};
use crate::process::{LONGEST, Program, command, installed, overlan, repository, run};
use crate::programs::noise;
use crate::service::Service;

#[test]
fn the_examples_dial_and_echo_know_each_other() {
    let lab = Lab::start();
    let mut echo = start_example(&lab, "echo", &["7"]);
    echo.line("listens on 7");
    let said = run_example(&lab, "dial", &["echo.home:7", "hello over there"]);
    assert_eq!(said, "hello over there");
    let peer = echo.line(&format!("dial.home.{DOMAIN} 100.64."));
    assert!(!peer.is_empty(), "{peer}");

    // Names of all forms, and a door where nobody is.
    let full = format!("echo.home.{DOMAIN}:7");
    for to in ["echo:7", &full] {
        assert_eq!(run_example(&lab, "dial", &[to, "again"]), "again", "{to}");
    }
    let refused = run(&mut example(&lab, "dial", &["echo:8", "hello"]), "");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("Refused"), "{refused:#?}");

    echo.signal(Signal::INT);
    assert!(echo.ended().success());
    // They were in memory, and each removed itself, the one that failed not: its program died of
    // the error.
    assert_eq!(devices(&lab), ["dial"]);
}

#[test]
fn the_web_example_greets_peers_by_their_keys() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    let mut web = start_example(&lab, "web", &["80"]);
    web.line("listens on 80");
    let fetched = run_example(&lab, "fetch", &["http://greeter.home/"]);
    let greeting = format!("200 OK\nhello fetch.home.{DOMAIN}, device ");
    assert!(fetched.starts_with(&greeting), "{fetched}");

    laptop.run(&["wait", "--for", "peer:greeter"]).ok();
    let forged = [
        "--header",
        "X-Forwarded-For: 100.64.0.99",
        &format!("http://greeter.home.{DOMAIN}/"),
    ];
    let page = laptop.curl(&forged).ok();
    let id = laptop.status()["device"]["id"].as_str().unwrap().to_owned();
    assert_eq!(page, format!("hello {}, device {id}", laptop.name));
    web.signal(Signal::INT);
    assert!(web.ended().success());
}

#[test]
fn the_postgres_example_asks_a_real_postgres() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let lab = Lab::start();
    let db = lab.up("db");
    db.serve(5432, postgres.address());
    let query = "select count(*), sum(n) from generate_series(1, 100000) as t(n)";
    let answer = run_example(
        &lab,
        "postgres",
        &["db.home:5432", "overlan", "postgres", query],
    );
    assert_eq!(answer, "100000|5000050000");
}

#[test]
fn the_chat_example_talks_between_two_nodes_of_one_process() {
    let lab = Lab::start();
    let said = run_example(&lab, "chat", &[]);
    assert_eq!(
        said,
        "alice says: How are you?\nbob says: Fine, and you?\nalice waves"
    );
    assert_eq!(devices(&lab), [""; 0]);
}

#[tokio::test]
async fn a_stream_closes_half_by_half_and_a_closed_node_has_delivered_everything() {
    let lab = Lab::start();
    let (web, laptop) = (node(&lab, "web").await, node(&lab, "laptop").await);
    meet(&web, &laptop).await;
    let mut listener = web.listen(80).unwrap();
    assert_eq!(web.listen(80).unwrap_err(), ListenError::InUse(80));
    assert_eq!(web.listen(0).unwrap_err(), ListenError::NoPort);

    // The peer's FIN ends reading; what is written after it still arrives.
    let (dialed, accepted) = tokio::join!(laptop.dial("web:80"), listener.accept());
    let (mut client, (mut server, peer)) = (dialed.unwrap(), accepted.unwrap());
    assert_eq!(
        (peer.label.as_str(), peer.network.as_str()),
        ("laptop", "home")
    );
    assert_eq!(peer.address, client.local_addr());
    assert_eq!(server.peer_addr(), client.local_addr());
    let whois = web.whois(&web.find("laptop").unwrap()).unwrap();
    assert_eq!(
        (whois.device, whois.identity),
        (peer.device, Some(peer.key))
    );
    client.write_all(b"ask").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = String::new();
    server.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "ask");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    drop(server);
    let mut answered = String::new();
    client.read_to_string(&mut answered).await.unwrap();
    assert_eq!(answered, "answer");

    // Megabytes that were written and not read yet when the writer closes: all of them arrive, then
    // the end.
    let (dialed, accepted) = tokio::join!(laptop.dial("web.home:80"), listener.accept());
    let (mut client, (mut server, _)) = (dialed.unwrap(), accepted.unwrap());
    let written = noise(3 << 20);
    let closing = async {
        client.write_all(&written).await.unwrap();
        client.shutdown().await.unwrap();
        drop(client);
        laptop.close().await.unwrap();
    };
    let mut read = Vec::new();
    let (_, len) = tokio::join!(closing, server.read_to_end(&mut read));
    assert_eq!(len.unwrap(), written.len());
    assert!(read == written);

    // What is held when its own node closes fails, and does not hang.
    let (dialed, accepted) = tokio::join!(web.dial("web:80"), listener.accept());
    let (mut client, (server, peer)) = (dialed.unwrap(), accepted.unwrap());
    assert!(peer.this_device);
    web.close().await.unwrap();
    let failed = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(failed.kind(), std::io::ErrorKind::ConnectionAborted);
    drop(server);
    listener.accept().await.unwrap_err();
    assert!(matches!(
        web.dial("web:80").await,
        Err(DialError::Internal(_))
    ));
    web.close().await.unwrap();
    assert_eq!(devices(&lab), [""; 0]);
}

#[tokio::test]
async fn datagrams_go_by_name_and_come_back_by_address() {
    let lab = Lab::start();
    let (web, laptop) = (node(&lab, "web").await, node(&lab, "laptop").await);
    meet(&web, &laptop).await;
    let (server, client) = (web.bind_udp(53).unwrap(), laptop.bind_udp(0).unwrap());
    assert!(web.bind_udp(53).is_err());
    assert_ne!(client.port(), 0);
    let mut data = vec![0; 2_048];
    let long = noise(1_200);
    let received = loop {
        assert_eq!(client.send_to(&long, "web:53").unwrap(), long.len());
        let received = timeout(Duration::from_secs(1), server.recv_from(&mut data));
        if let Ok(received) = received.await {
            break received.unwrap();
        }
    };
    let (len, from) = received;
    assert!(data[..len] == long);
    let who = web.identify(from).unwrap();
    assert_eq!(who.label, "laptop");
    assert_eq!(from.address.port(), client.port());
    loop {
        server.send_to_peer(b"answer", from).unwrap();
        let received = timeout(Duration::from_secs(1), client.recv_from(&mut data));
        if let Ok(received) = received.await {
            let (len, from) = received.unwrap();
            assert_eq!(&data[..len], b"answer");
            assert_eq!(laptop.identify(from).unwrap().label, "web");
            break;
        }
    }
    let too_long = vec![0; client.max_payload(from) + 1];
    assert!(client.send_to(&too_long, "web:53").is_err());
    let nobody = client.send_to(b"x", "nobody:53");
    assert!(matches!(nobody, Err(DialError::Missing(_))), "{nobody:?}");
    assert_eq!(
        client.send_to(b"x", "example.com:53"),
        Err(DialError::Foreign)
    );

    let (closed, waited) = tokio::join!(web.close(), server.recv_from(&mut data));
    closed.unwrap();
    assert_eq!(
        waited.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionAborted
    );
    laptop.close().await.unwrap();
}

#[tokio::test]
async fn a_node_in_a_directory_comes_back_without_a_key_and_ends_with_its_last_handle() {
    let lab = Lab::start();
    let directory = lab.path("library");
    let join: JoinString = lab.controller.join.parse().unwrap();
    let built = || {
        Node::builder()
            .state_dir(&directory)
            .server(join.clone())
            .hostname("stays")
    };
    let first = built().auth_key(key(&lab, &[])).up().await.unwrap();
    let name = first.status().device.unwrap().name;
    let busy = built().up().await;
    assert!(matches!(busy, Err(UpError::State(_))), "{busy:?}");
    first.close().await.unwrap();
    assert_eq!(devices(&lab), ["stays"]);

    let second = built().up().await.unwrap();
    assert_eq!(second.status().device.unwrap().name, name);
    let other: JoinString = "https://elsewhere.example:8443".parse().unwrap();
    let refused = Node::builder()
        .state_dir(&directory)
        .server(other)
        .up()
        .await;
    assert!(refused.is_err(), "{refused:?}");

    // A listener keeps the node up; the last that goes ends it, and frees the directory.
    let listener = second.listen(80).unwrap();
    drop(second);
    let stays = listener.node().clone();
    stays.ready(Some(LONGEST)).await.unwrap();
    drop((stays, listener));
    let third = loop {
        match built().ephemeral(true).up().await {
            Err(UpError::State(_)) => tokio::task::yield_now().await,
            third => break third.unwrap(),
        }
    };
    third.close().await.unwrap();
    assert_eq!(devices(&lab), [""; 0]);
    assert!(matches!(built().up().await, Err(UpError::NotEnrolled)));
}

#[tokio::test]
async fn close_says_what_a_peer_did_not_take() {
    let mut lab = Lab::start();
    let (web, laptop) = (node(&lab, "web").await, node(&lab, "laptop").await);
    meet(&web, &laptop).await;
    let mut listener = web.listen(80).unwrap();
    let (dialed, accepted) = tokio::join!(laptop.dial("web:80"), listener.accept());
    let (mut client, _server) = (dialed.unwrap(), accepted.unwrap());
    for relay in &mut lab.relays {
        relay.program.kill();
    }
    client.write_all(b"into the void").await.unwrap();
    let closed = laptop.close().await;
    assert!(
        matches!(closed, Err(CloseError::Undelivered { .. })),
        "{closed:?}"
    );
    web.close().await.unwrap();
}

#[test]
fn up_in_memory_writes_nothing_and_removes_itself() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    let key = lab.path("memory.key");
    fs::write(&key, lab.auth_key(&[])).unwrap();
    let mut up = overlan();
    up.args(["up", "--state", "mem:", "--hostname", "guest"])
        .args(["--socks", "127.0.0.1:0", "--dns", "off"])
        .args(["--server", &lab.controller.join, "--auth-key-file"])
        .arg(&key)
        .current_dir(lab.path(""));
    let mut up = Program::start("guest", &lab.path(""), &mut up, "");
    let line = up.line(&format!("overlan is up: guest.home.{DOMAIN} "));
    let (_, socks) = line.split_once("socks5h://").unwrap();
    assert_eq!(devices(&lab), ["guest", "web"]);
    let mut curl = command("curl");
    curl.args(["--silent", "--show-error", "--max-time", "30", "--proxy"])
        .arg(format!("socks5h://{socks}"))
        .arg(format!("http://web.home.{DOMAIN}/"));
    assert_eq!(run(&mut curl, "").ok(), "a page of web");
    assert!(up.stop().success());
    assert_eq!(devices(&lab), ["web"]);
    assert!(!lab.path("mem:").exists());
    run(overlan().args(["status", "--state", "mem:"]), "").refused(2, &["in memory"]);
}

/// A node of this process, in memory, with a key of its own.
async fn node(lab: &Lab, name: &str) -> Node {
    Node::builder()
        .server(lab.controller.join.parse().unwrap())
        .auth_key(key(lab, &[]))
        .hostname(name)
        .up()
        .await
        .unwrap()
}

/// Waits until both know each other: a device takes nothing from one that it has not heard of.
async fn meet(web: &Node, laptop: &Node) {
    laptop.wait_for("web", LONGEST).await.unwrap();
    web.wait_for("laptop", LONGEST).await.unwrap();
}

fn key(lab: &Lab, args: &[&str]) -> Secret {
    Secret::new(&lab.auth_key(args))
}

/// Labels of the devices that the controller knows, in order.
pub(crate) fn devices(lab: &Lab) -> Vec<String> {
    let devices: Value = serde_json::from_str(&lab.admin(&["devices", "--json"])).unwrap();
    let devices = devices["devices"].as_array().unwrap().iter();
    let mut labels: Vec<String> = devices
        .map(|device| device["label"].as_str().unwrap().to_owned())
        .collect();
    labels.sort();
    labels
}

/// The example `name` with the lab's join string, a file with a reusable key, and `args`.
fn example(lab: &Lab, name: &str, args: &[&str]) -> Command {
    let key = lab.path(&format!("{name}.key"));
    fs::write(&key, lab.auth_key(&["--reusable"])).unwrap();
    let mut example = command(examples().join(name));
    example.arg(&lab.controller.join).arg(key).args(args);
    example
}

#[track_caller]
fn run_example(lab: &Lab, name: &str, args: &[&str]) -> String {
    run(&mut example(lab, name, args), "").ok()
}

#[track_caller]
fn start_example(lab: &Lab, name: &str, args: &[&str]) -> Program {
    Program::start(name, &lab.path(""), &mut example(lab, name, args), "")
}

/// The directory of the built examples. `cargo test` builds them unless it is told which test to
/// run; then they are built here.
fn examples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // target/debug/deps/e2e-…
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap().join("examples");
        if !NAMES.iter().all(|name| is_fresh(&folder.join(name))) {
            let mut build = Command::new(env!("CARGO"));
            build
                .args(["build", "--quiet", "--package", "overlan", "--examples"])
                .current_dir(repository(""));
            if !cfg!(debug_assertions) {
                build.arg("--release");
            }
            assert!(
                build.status().unwrap().success(),
                "the examples do not build"
            );
        }
        folder
    })
}

/// Returns true for a program that is newer than all its sources, which cargo wrote down beside it.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path)?.modified();
    let (Ok(made), Ok(list)) = (
        changed(program),
        fs::read_to_string(program.with_extension("d")),
    ) else {
        return false;
    };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let mut sources = sources.split_whitespace().map(Path::new);
    sources.all(|source| changed(source).is_ok_and(|changed| changed <= made))
}

const NAMES: [&str; 6] = ["chat", "dial", "echo", "fetch", "postgres", "web"];
