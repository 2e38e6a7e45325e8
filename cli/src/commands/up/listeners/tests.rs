use clap::Parser;
use tokio::net::TcpListener;

use super::*;

#[derive(Debug, Parser)]
struct ListenersLine {
    #[command(flatten)]
    listeners: ListenerArgs,
}

fn args(line: &[&str]) -> Result<ListenerArgs, clap::Error> {
    let line = std::iter::once("up").chain(line.iter().copied());
    ListenersLine::try_parse_from(line).map(|line| line.listeners)
}

#[tokio::test]
async fn doors_open_on_loopback_or_stay_shut() {
    let listeners = args(&["--socks", "127.0.0.1:0", "--dns", "off"]).unwrap();
    let listeners = listeners.open(None).await.unwrap();
    let config = &listeners.proxy.config;
    assert_eq!(
        (listeners.proxy.addresses().len(), listeners.dns.address),
        (1, None)
    );
    assert!(config.same_user && !config.direct && config.credentials.is_none());
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = held.local_addr().unwrap().to_string();
    let listeners = args(&["--socks", &address, "--dns", "off"]).unwrap();
    let text = listeners.open(None).await.unwrap_err().to_string();
    assert!(
        text.contains(&address) && text.contains("--socks"),
        "{text}"
    );
    assert!(text.contains("Another program"), "{text}");
}

#[test]
fn a_public_door_needs_a_password_and_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "a long password\n").unwrap();
    let file = file.to_str().unwrap();
    let public = "0.0.0.0:1080".parse().unwrap();
    let settings = |line: &[&str]| args(line).unwrap().settings(None).unwrap();
    let code = |line: &[&str]| {
        let refused = settings(line).check(public).unwrap_err();
        Failure::from(refused).code()
    };
    assert_eq!(code(&[]), Code::Usage);
    let user = ["--socks-user", "ci", "--socks-password-file", file];
    assert_eq!(code(&user), Code::Usage);
    let said = [&user[..], &["--socks-public"]].concat();
    let said = settings(&said);
    said.check(public).unwrap();
    let config = said.config;
    assert!(config.credentials.is_some());
    assert!(!config.same_user);
    args(&["--socks-public"]).unwrap_err();
    args(&["--socks-user", "ci"]).unwrap_err();
    args(&["--socks", "localhost:1080"]).unwrap_err();
}

#[tokio::test]
async fn the_proxy_may_have_several_places_and_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("proxy").display());
    let line = ["--socks", "127.0.0.1:0", "--socks", &unix, "--dns", "off"];
    let listeners = args(&line).unwrap().open(None).await.unwrap();
    assert_eq!(
        (
            listeners.proxy.sockets().count(),
            listeners.proxy.addresses().len()
        ),
        (2, 1)
    );
    assert_eq!(listeners.proxy.places()[1], unix);
    let off = args(&["--socks", "off,127.0.0.1:0", "--dns", "off"]).unwrap();
    assert_eq!(off.open(None).await.unwrap_err().code(), Code::Usage);
    for wrong in ["unix:", "localhost:1080"] {
        args(&["--socks", wrong]).unwrap_err();
    }
    args(&["--socks-unix-mode", "999"]).unwrap_err();
}

#[tokio::test]
async fn what_is_open_stays_open_when_settings_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("proxy").display());
    let line = [
        "--socks",
        "127.0.0.1:0",
        "--socks",
        &unix,
        "--dns",
        "127.0.0.1:0",
    ];
    let before = args(&line).unwrap().open(None).await.unwrap();
    let more = [&line[..], &["--hold", "3", "--socks-unix-mode", "0660"]].concat();
    let after = args(&more).unwrap().open(Some(&before)).await.unwrap();
    assert_eq!(after.proxy.places(), before.proxy.places());
    assert_eq!(after.proxy.config.hold, Duration::from_secs(3));
    assert_eq!(after.dns.address, before.dns.address);
    assert!(after.dns.sockets.is_none(), "opened twice");

    // A place that is left out, one that is new, and one that is not allowed.
    let moved = ["--socks", "127.0.0.1:0", "--dns", "off"];
    let moved = args(&moved).unwrap().open(Some(&after)).await.unwrap();
    assert_eq!(moved.proxy.places(), before.proxy.places()[..1]);
    assert_eq!(moved.dns.address, None);
    let public = ["--socks", "127.0.0.1:0", "--socks", "0.0.0.0:0"];
    let refused = args(&public).unwrap().open(Some(&after)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Usage);
}

#[tokio::test]
async fn settings_that_cannot_be_leave_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy");
    let unix = format!("unix:{}", path.display());
    let line = ["--socks", &unix, "--dns", "127.0.0.1:0"];
    // A port that is free, and stays so while nobody asks for port 0.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forward = free.local_addr().unwrap().to_string();
    let forwards = [&line[..], &["--dns-forward", &forward]].concat();
    let before = args(&forwards).unwrap().open(None).await.unwrap();
    let mode = || {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions())
            & 0o777
    };

    // One place is taken: who may open the other one stays, too.
    let taken = [
        "--socks",
        &unix,
        "--socks",
        &forward,
        "--socks-unix-mode",
        "0666",
    ];
    args(&taken).unwrap().open(Some(&before)).await.unwrap_err();
    assert_eq!(mode(), 0o600);
    let wider = [&line[..], &["--socks-unix-mode", "0660"]].concat();
    let after = args(&wider).unwrap().open(Some(&before)).await.unwrap();
    assert_eq!(mode(), 0o600, "before it is brought in");
    after.proxy.set_modes();
    assert_eq!(mode(), 0o660);

    // The resolver would ask itself: where it hands names on to counts until the next start.
    drop(free);
    assert_eq!(after.dns_forwards, before.dns_forwards);
    let circle = ["--socks", &unix, "--dns", &forward];
    let refused = args(&circle).unwrap().open(Some(&after)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Usage, "{refused}");
    // Nor do other hosts get what it hands on, though nothing says any more that it does.
    let public = ["--socks", &unix, "--dns", "0.0.0.0:0"];
    let refused = args(&public).unwrap().open(Some(&after)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Usage);
}

#[tokio::test]
async fn a_port_that_it_has_itself_is_told_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "a long password\n").unwrap();
    let line = ["--socks", "127.0.0.1:0", "--dns", "off"];
    let before = args(&line).unwrap().open(None).await.unwrap();
    let port = before.proxy.addresses()[0].port();
    let wider = format!("[::]:{port}");
    let user = [
        "--socks-public",
        "--socks-user",
        "ci",
        "--socks-password-file",
        file.to_str().unwrap(),
    ];
    let line = [&["--socks", wider.as_str(), "--dns", "off"], &user[..]].concat();
    let refused = args(&line).unwrap().open(Some(&before)).await.unwrap_err();
    assert!(
        refused.to_string().contains("at another address"),
        "{refused}"
    );
}
