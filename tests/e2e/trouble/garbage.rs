//! Bytes that mean nothing and connections that say nothing, at every door of every program: the
//! programs live on.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use overlan_protocol::ALPN_RELAY;
use overlan_protocol::netmap::Netmap;
use overlan_transport::connect;
use overlan_transport::tls::{self, ServerTrust};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::lab::{DOMAIN, Lab, NETWORK};
use crate::process::{LONGEST, Program, command, find, installed, run, until};
use crate::programs::noise;
use crate::service::Service;

#[test]
fn garbage_and_silence_harm_nobody() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("still here\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, page.address());
    let url = format!("http://web.{NETWORK}.{DOMAIN}/");
    assert_eq!(laptop.curl(&[&url]).ok(), "still here");

    let noise = noise(64 << 10);
    let controller: SocketAddr = lab.controller.address.parse().unwrap();
    let relays: Vec<SocketAddr> = lab
        .relays
        .iter()
        .map(|relay| relay.address.parse().unwrap())
        .collect();
    let doors = [laptop.socks, laptop.dns, controller, relays[0], relays[1]];
    let mut held = Vec::new();
    for door in doors {
        for words in BEGINNINGS {
            speak(door, words);
        }
        speak(door, &noise);
        // These stay open and silent, before and after their first words.
        for words in BEGINNINGS {
            let mut stream = TcpStream::connect(door).unwrap();
            stream.write_all(words).unwrap();
            held.push(stream);
        }
    }

    nonsense_over_http(&lab, &noise);
    let tls = nonsense_over_tls(&lab, &noise);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for size in [0, 1, 11, 12, 13, 40, 512, 1_400, 9_000] {
        socket.send_to(&noise[..size], laptop.dns).unwrap();
    }
    for len in 0..QUERY.len() {
        socket.send_to(&QUERY[..len], laptop.dns).unwrap();
    }
    // A name that points to itself, and one that points past the end.
    for pointer in [[0xc0, 12], [0xff, 0xff]] {
        let query = [&QUERY[..12], &pointer, &[0, 1, 0, 1]].concat();
        socket.send_to(&query, laptop.dns).unwrap();
    }

    let control = lab.path("laptop").join("overlan.sock");
    for words in [
        b"\n".as_slice(),
        b"status\n",
        b"{\"status\":1}\n",
        b"[[[[[[[[[[[[\n",
        &noise,
        &[b'"'; 100_000],
    ] {
        let mut stream = UnixStream::connect(&control).unwrap();
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        // It may hang up before it has read all.
        let sent = stream.write_all(words);
        stream.shutdown(Shutdown::Write).ok();
        let mut answer = Vec::new();
        if sent.is_ok() && stream.read_to_end(&mut answer).is_ok() && words.ends_with(b"\n") {
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.contains("not-understood"), "{words:?}: {answer}");
        }
    }
    let silent = [(); 4].map(|()| UnixStream::connect(&control).unwrap());

    // With all of those still open, everything works: at once for a new connection, a new name, a
    // new command, a new device.
    assert_eq!(laptop.curl(&[&url]).ok(), "still here");
    if find("dig").is_some() {
        for transport in ["+notcp", "+tcp"] {
            let server = format!("@{}", laptop.dns.ip());
            let port = laptop.dns.port().to_string();
            let name = format!("web.{NETWORK}.{DOMAIN}");
            let args = [&server, "-p", &port, "+short", transport, &name];
            assert_eq!(run(command("dig").args(args), "").ok(), web.address);
        }
    }
    assert_eq!(laptop.status()["state"], "running");
    let newcomer = lab.up("newcomer");
    newcomer.sees(&web, true);
    assert_eq!(newcomer.curl(&[&url]).ok(), "still here");
    drop((held, silent, tls));

    let relays = lab.relays.iter().map(|relay| &relay.program);
    for program in [&laptop.program, &lab.controller.program]
        .into_iter()
        .chain(relays)
    {
        calm(program);
    }
}

/// Requests that the controller must say no to, by TLS that is right.
#[track_caller]
fn nonsense_over_http(lab: &Lab, noise: &[u8]) {
    let file = lab.path("noise");
    fs::write(&file, noise).unwrap();
    let data = format!("@{}", file.display());
    let long = format!("Cookie: {}", "x".repeat(60_000));
    for (args, path) in [
        (["--data-binary", &data].as_slice(), "/v1/enrol"),
        (&["--data-binary", "{"], "/api/v1/login"),
        (&["--json", "{"], "/api/v1/login"),
        (&["--json", "[[[[[[[[[[[[[[[["], "/api/v1/setup"),
        (&["--json", "{}"], "/v1/enrol"),
        (&["--json", "{}"], "/v1/relay/heartbeat"),
        (
            &["--header", "Authorization: Bearer ovs_x_y"],
            "/api/v1/devices",
        ),
        (&["--header", "Authorization: \t"], "/v1/device/netmap"),
        (&[], "/v1/device/netmap?since=18446744073709551616"),
        (&["--header", &long], "/api/v1/health"),
        (&["--request", "DELETE"], "/api/v1/auth-keys/%00%ff..%2f"),
        (&["--request", "NONSENSE"], "/api/v1/health"),
        (&[], "/../../etc/passwd"),
    ] {
        let url = format!("https://{}{path}", lab.controller.address);
        let quiet = ["--disable", "--silent", "--insecure", "--path-as-is"];
        let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        let mut curl = command("curl");
        let outcome = run(curl.args(quiet).args(code).args(args).arg(url), "");
        // 000: it hung up in the middle of a request that is too long.
        let no = outcome.stdout.starts_with('4') || outcome.stdout == "000";
        assert!(no, "{path}: {outcome:#?}");
    }
}

/// Words that no relay understands, in connections that it takes for a client's. Returns those that
/// say nothing.
#[track_caller]
fn nonsense_over_tls(lab: &Lab, noise: &[u8]) -> Vec<TlsStream<overlan_transport::tls::Stepwise>> {
    let stored = lab.path("laptop").join("netmap.json");
    let netmap: Netmap = until("the stored netmap", LONGEST, || {
        let document: Value = serde_json::from_slice(&fs::read(&stored).ok()?).unwrap();
        serde_json::from_value(document["value"].clone()).ok()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut silent = Vec::new();
    for relay in netmap.relays.values() {
        let address = relay.addresses[0].parse().unwrap();
        let config = tls::client_config(&ServerTrust::Pinned(relay.pins.clone()), ALPN_RELAY);
        let connect = || {
            let stream = connect::direct(&address, config.clone(), LONGEST);
            runtime.block_on(stream).unwrap()
        };
        for words in [
            noise,
            &[0; 4_096],
            &[0xff; 4_096],
            b"\x01",
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            let mut stream = connect();
            runtime.block_on(async {
                // It may hang up before it has read all.
                drop(stream.write_all(words).await);
                drop(stream.shutdown().await);
                let mut answer = Vec::new();
                let ended = timeout(LONGEST, stream.read_to_end(&mut answer)).await;
                assert!(ended.is_ok(), "the relay must hang up");
            });
        }
        silent.extend([(); 4].map(|()| connect()));
    }
    silent
}

/// The first bytes of the doors' protocols, and of others that are sent to them by mistake:
/// nothing, SOCKS5, SOCKS4, TLS, HTTP, DNS.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"\x05",
    b"\x05\xff",
    b"\x05\x01\x00\x05\x01\x00\x03\xff",
    b"\x05\x01\x00\x05\x09\x00\x01\x7f\x00\x00\x01\x00\x50",
    b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
    b"\x16\x03\x01",
    b"\x16\x03\x01\xff\xff",
    b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x00\x00",
    b"\xff\xff\x00",
    QUERY,
];

/// A question for the address of `a.b`, as RFC 1035 writes it.
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x01b\x00\x00\x01\x00\x01";

/// Says `words`, hangs up, and takes whatever comes back.
#[track_caller]
fn speak(door: SocketAddr, words: &[u8]) {
    let mut stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    // It may hang up before it has read all.
    drop(stream.write_all(words));
    stream.shutdown(Shutdown::Write).ok();
    drop(io::copy(&mut stream.take(1 << 20), &mut io::sink()));
}

/// A program that hears the end of a stranger's bytes hangs up, too. Others are no matter of this
/// test.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// It did not panic, and strangers did not fill its log.
#[track_caller]
fn calm(program: &Program) {
    let output = program.output();
    assert!(!output.contains("panicked"), "{output}");
    let loud = output
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
        .count();
    assert!(loud <= 2, "{loud} warnings:\n{output}");
}
