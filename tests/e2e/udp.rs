//! UDP services of a device, served by `serve udp`: a real DNS server, iperf3 and QUIC, asked by
//! every way that leads to them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use serde_json::Value;

use crate::doors::associate;
use crate::forward::forwards;
use crate::lab::{Device, KeyBy, Lab};
use crate::process::{LONGEST, Owned, Program, command, installed, run, until};
use crate::programs::noise;

mod quic;

#[test]
fn a_dns_server_is_published_for_datagrams_and_streams_and_asked_by_every_way() {
    if !installed(&["dig", "dnsmasq"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    let dnsmasq = Dnsmasq::start(&lab);
    let target = dnsmasq.address.to_string();
    web.run(&["serve", "udp", "53", &target]).ok();
    web.run(&["serve", "tcp", "53", &target]).ok();
    let listed = web.run(&["serve", "list"]).ok();
    for kind in ["udp", "tcp"] {
        assert!(
            listed.contains(&format!("{kind}  53  {target}")),
            "{listed}"
        );
    }
    web.run(&["serve", "udp", "53", "127.0.0.1:9"])
        .refused(1, &["udp:53", "already"]);
    web.run(&["serve", "udp", "54", "unix:/a"])
        .refused(2, &["Unix sockets"]);

    // Two forwards of one number: dig asks by datagrams and by a stream.
    let (forward, by_udp) = forwards(&lab, &laptop, &["--udp", "0:web:53"]);
    let (_streams, by_tcp) = forwards(&lab, &laptop, &["0:web:53"]);
    assert_eq!(dig(by_udp, "+notcp").ok(), ANSWER);
    assert_eq!(dig(by_tcp, "+tcp").ok(), ANSWER);
    assert_eq!(through_association(&laptop, &web, 53), ANSWER);
    assert_eq!(through_nc(&laptop, "web", 53), Some(ANSWER.to_owned()));

    // It stays at later starts.
    assert!(web.program.stop().success());
    let web = lab.up_by("web", KeyBy::Nothing, &[]);
    laptop.sees(&web, true);
    assert_eq!(dig(by_udp, "+notcp").ok(), ANSWER);
    assert_eq!(web.status()["serves"][1]["kind"], "udp");

    // A server that is gone is told: nc ends and says that nobody is there.
    drop(dnsmasq);
    assert_eq!(through_nc(&laptop, "web", 53), None);
    drop(forward);

    web.run(&["serve", "remove", "udp:53"]).ok();
    let listed = web.run(&["serve", "list"]).ok();
    assert!(
        listed.contains("tcp") && !listed.contains("udp"),
        "{listed}"
    );
    assert_eq!(through_nc(&laptop, "web", 53), None);
    web.run(&["serve", "remove", "udp:53"])
        .refused(1, &["nothing is served"]);
    web.run(&["serve", "udp", "53", &target]).ok();
    web.run(&["serve", "remove", "53"]).ok();
    assert!(web.run(&["serve", "list"]).ok().is_empty());
}

#[test]
fn iperf3_measures_datagrams_through_a_forward() {
    if !installed(&["iperf3"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let port = free_port();
    let mut server = command("iperf3");
    server.args(["--server", "--bind", "127.0.0.1", "--forceflush"]);
    server.args(["--port", &port.to_string()]);
    let server = Program::start("iperf3", &lab.path(""), &mut server, "");
    until("iperf3", LONGEST, || {
        server.output().contains("Server listening").then_some(())
    });
    for kind in ["tcp", "udp"] {
        web.run(&["serve", kind, "5201", &port.to_string()]).ok();
    }
    // Its datagrams go to the port where its connection goes.
    let (_streams, here) = forwards(&lab, &laptop, &["0:web:5201"]);
    let same = format!("{}:web:5201", here.port());
    let (_datagrams, _) = forwards(&lab, &laptop, &["--udp", &same]);
    let here = here.port().to_string();
    for direction in [&[][..], &["--reverse"]] {
        let mut client = command("iperf3");
        client.args(["--client", "127.0.0.1", "--port", &here, "--udp", "--json"]);
        client.args(["--bytes", "4M", "--bitrate", "20M", "--length", "1200"]);
        let report = run(client.args(direction), "").ok();
        let report: Value = serde_json::from_str(&report).unwrap();
        let sum = &report["end"]["sum"];
        let (packets, lost) = (
            sum["packets"].as_u64().unwrap(),
            sum["lost_packets"].as_u64().unwrap(),
        );
        eprintln!("iperf3 {direction:?}: {lost} of {packets} datagrams lost");
        // Nothing on the way loses any while there is room; a machine that stands still for a
        // moment does.
        assert!(packets >= 3_000, "{report}");
        assert!(lost * 20 <= packets, "{lost} of {packets} lost: {report}");
    }
}

#[test]
fn eight_mebibytes_come_over_quic_through_an_association() {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let content = noise(8 << 20);
    let server = quic::Server::start(content.clone());
    web.run(&["serve", "udp", "443", &server.address().to_string()])
        .ok();
    let (control, association) = associate(laptop.socks);
    let wrapped = Wrapped::start(association, &web.address, 443);
    let received = quic::fetch(wrapped.address, server.certificate());
    assert!(received.len() == content.len(), "{} bytes", received.len());
    assert_eq!(sha256(&received), sha256(&content));
    drop(control);
}

/// The record of `name` at the test's DNS server.
const ANSWER: &str = "192.0.2.77";

/// The name that it knows.
const NAME: &str = "printer.example";

/// A running dnsmasq that knows one name.
struct Dnsmasq {
    address: SocketAddr,
    _program: Program,
}

impl Dnsmasq {
    fn start(lab: &Lab) -> Self {
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut dnsmasq = command("dnsmasq");
        dnsmasq.args(["--keep-in-foreground", "--no-resolv", "--no-hosts"]);
        dnsmasq.args(["--conf-file=/dev/null", "--pid-file", "--bind-interfaces"]);
        dnsmasq.args(["--listen-address=127.0.0.1", "--user="]);
        dnsmasq.arg(format!("--port={port}"));
        dnsmasq.arg(format!("--address=/{NAME}/{ANSWER}"));
        let program = Program::start("dnsmasq", &lab.path(""), &mut dnsmasq, "");
        until("dnsmasq", LONGEST, || {
            (dig(address, "+notcp").stdout.trim() == ANSWER).then_some(())
        });
        Self {
            address,
            _program: program,
        }
    }
}

/// A port that was free a moment ago for streams and for datagrams, for programs that cannot choose
/// one and tell.
fn free_port() -> u16 {
    until("a free port", LONGEST, || {
        let streams = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let port = streams.local_addr().ok()?.port();
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
        datagrams.ok().map(|_| port)
    })
}

fn dig(at: SocketAddr, transport: &str) -> crate::process::Outcome {
    let (server, port) = (format!("@{}", at.ip()), at.port().to_string());
    let args = [
        "-r", "-p", &port, transport, "+short", "+tries=3", "+time=5",
    ];
    run(command("dig").arg(server).args(args).args([NAME, "A"]), "")
}

/// dig speaks no SOCKS: what it sends goes on wrapped.
fn through_association(device: &Device, peer: &Device, port: u16) -> String {
    let (control, association) = associate(device.socks);
    let wrapped = Wrapped::start(association, &peer.address, port);
    let answer = dig(wrapped.address, "+notcp").ok();
    drop(control);
    answer
}

/// One question through `nc -u`: the address in the answer, or nothing if nc said that nobody is
/// there.
fn through_nc(device: &Device, peer: &str, port: u16) -> Option<String> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in NAME.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let mut nc = device
        .command(&["nc", "-u", "-w", "20", peer, &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (nc.stdin.take().unwrap(), nc.stdout.take().unwrap());
    let mut said = nc.stderr.take().unwrap();
    let mut nc = Owned::new(nc);
    input.write_all(&question).unwrap();
    let mut answer = vec![0; 512];
    let len = output.read(&mut answer).unwrap();
    if len == 0 {
        let status = nc.ended("nc");
        let mut text = String::new();
        said.read_to_string(&mut text).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.contains("refused"), "{text}");
        return None;
    }
    assert_eq!(answer[..2], question[..2], "the answer to another question");
    let address: [u8; 4] = answer[len - 4..len].try_into().unwrap();
    Some(Ipv4Addr::from(address).to_string())
}

/// A UDP port of this host for a program that speaks no SOCKS: everything goes on through an
/// association to one port of a peer.
struct Wrapped {
    address: SocketAddr,
    threads: Vec<thread::JoinHandle<()>>,
    plain: Arc<UdpSocket>,
    wrapped: Arc<UdpSocket>,
}

impl Wrapped {
    fn start(association: UdpSocket, peer: &str, port: u16) -> Self {
        let plain = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let wrapped = Arc::new(association);
        let peer: Ipv4Addr = peer.parse().unwrap();
        let mut header = vec![0, 0, 0, 1];
        header.extend_from_slice(&peer.octets());
        header.extend_from_slice(&port.to_be_bytes());
        let program = Arc::new(std::sync::Mutex::new(None));
        let out = thread::spawn({
            let (plain, wrapped, header) = (plain.clone(), wrapped.clone(), header.clone());
            let program = program.clone();
            move || {
                let mut data = vec![0; 65_535];
                while let Ok((len @ 1.., from)) = plain.recv_from(&mut data) {
                    *program.lock().unwrap() = Some(from);
                    // The association may be gone with its test.
                    let _ = wrapped.send(&[&header, &data[..len]].concat());
                }
            }
        });
        let back = thread::spawn({
            let (plain, wrapped) = (plain.clone(), wrapped.clone());
            move || {
                let mut data = vec![0; 65_535];
                while let Ok(len @ 1..) = wrapped.recv(&mut data) {
                    assert_eq!(data[..10], header, "who answers");
                    if let Some(program) = *program.lock().unwrap() {
                        let _ = plain.send_to(&data[10..len], program);
                    }
                }
            }
        });
        Self {
            address: plain.local_addr().unwrap(),
            threads: vec![out, back],
            plain,
            wrapped,
        }
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        // Empty datagrams and closed sockets end the threads.
        let end = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        end.send_to(&[], self.address).unwrap();
        for socket in [&self.plain, &self.wrapped] {
            rustix::net::shutdown(socket, rustix::net::Shutdown::Both).ok();
        }
        for thread in self.threads.drain(..) {
            // What it had to say was said when it panicked.
            thread.join().ok();
        }
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().to_vec()
}
