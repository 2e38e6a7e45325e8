//! Other users of this host at the doors of a device, whatever address they bind and whatever they
//! speak; as root only.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;

use crate::doors::associate;
use crate::forward::forwards;
use crate::lab::Lab;
use crate::process::{Outcome, command, installed, run, skipped};
use crate::service::Service;

/// Somebody else on every system.
const NOBODY: &str = "65534";

/// `program` as another user; `None` if that cannot be had here.
fn as_nobody(program: &str) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can run a program as another user");
        return None;
    }
    if !installed(&["setpriv"]) || !program.starts_with('/') && !installed(&[program]) {
        return None;
    }
    let mut other = command("setpriv");
    other.args([
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
        program,
    ]);
    Some(other)
}

/// Addresses of this host that a client may bind: of loopback, and those that others reach, as far
/// as there are any.
fn sources(v6: bool) -> Vec<IpAddr> {
    let (any, beyond) = match v6 {
        true => ("[::]:0", "[2001:db8::1]:9"),
        false => ("0.0.0.0:0", "198.51.100.1:9"),
    };
    // Nothing is sent by this.
    let outward = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(beyond)?;
        socket.local_addr()
    });
    let loopback: &[&str] = match v6 {
        true => &["::1"],
        false => &["127.0.0.1", "127.0.0.9"],
    };
    let mut all: Vec<IpAddr> = loopback.iter().map(|ip| ip.parse().unwrap()).collect();
    match outward {
        Ok(own) if !own.ip().is_loopback() => all.push(own.ip()),
        Ok(_) | Err(_) => skipped("this host has no address but those of loopback"),
    }
    all
}

fn curl(mut curl: Command, source: &IpAddr, args: &[&str]) -> Outcome {
    let interface = source.to_string();
    let first = [
        "--disable",
        "-sS",
        "--max-time",
        "30",
        "--interface",
        &interface,
    ];
    run(curl.args(first).args(args), "")
}

#[test]
fn another_user_gets_nothing_at_the_proxy_whatever_address_it_binds() {
    let Some(_) = as_nobody("curl") else { return };
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    let key = lab.auth_key(&[]);
    // Beside the one of each device.
    let doors = ["--socks", "[::1]:0"];
    let laptop = lab.up_by("laptop", crate::lab::KeyBy::File(&key), &doors);
    laptop.sees(&web, true);
    let url = format!("http://{}/", web.name);
    let proxies: Vec<SocketAddr> = laptop.status()["proxies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| place.as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(proxies.len(), 2);
    for at in &proxies {
        let mut written = vec![at.to_string()];
        if let IpAddr::V4(v4) = at.ip() {
            written.push(format!("[{}]:{}", v4.to_ipv6_mapped(), at.port()));
        }
        for (at, source) in written.iter().flat_map(|written| {
            sources(at.is_ipv6())
                .into_iter()
                .map(move |ip| (written, ip))
        }) {
            let (socks, http) = (format!("socks5h://{at}"), format!("http://{at}"));
            let mine = curl(command("curl"), &source, &["--proxy", &http, &url]);
            if at.starts_with("[::ffff") && matches!(mine.code, Some(7 | 45)) {
                // This curl binds no address of IPv4 for one that is written so.
                continue;
            }
            assert_eq!(mine.ok(), "a page of web", "{source} to {at}");
            let by_socks = curl(
                as_nobody("curl").unwrap(),
                &source,
                &["--proxy", &socks, &url],
            );
            assert_eq!(by_socks.code, Some(97), "{source} to {at}: {by_socks:#?}");
            assert!(by_socks.stderr.contains("authentication"), "{by_socks:#?}");
            let by_http = curl(
                as_nobody("curl").unwrap(),
                &source,
                &["--proxy", &http, "-w", " %{http_code}", &url],
            )
            .ok();
            assert!(by_http.ends_with(" 403"), "{source} to {at}: {by_http}");
            for text in ["user 65534", "--socks-user"] {
                assert!(by_http.contains(text), "not {text}: {by_http}");
            }
        }
    }
    let log = laptop.program.output();
    let told = log.lines().filter(|line| line.contains("turned away"));
    let told = told.count();
    // One line of each door, and one more if a minute passed.
    assert!((2..=4).contains(&told), "{told} lines:\n{log}");
}

#[test]
fn another_user_gets_nothing_by_a_forward_unless_all_users_may() {
    let Some(_) = as_nobody("curl") else { return };
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, page.address());
    let (mut forward, here) = forwards(&lab, &laptop, &["0:web:80"]);
    let url = format!("http://{here}/");
    for source in sources(false) {
        let mine = curl(command("curl"), &source, &[&url]);
        assert_eq!(mine.ok(), "a page of web", "{source}");
        let other = curl(as_nobody("curl").unwrap(), &source, &[&url]);
        // A reset, which sometimes overtakes the connect.
        assert!(matches!(other.code, Some(56 | 7)), "{source}: {other:#?}");
    }
    forward.line(&format!(
        "{here} -> web:80: a program was turned away: it belongs to user 65534"
    ));
    drop(forward);
    let (_forward, here) = forwards(&lab, &laptop, &["--all-users", "0:web:80"]);
    let other = as_nobody("curl").unwrap();
    let other = curl(other, &sources(false)[0], &[&format!("http://{here}/")]);
    assert_eq!(other.ok(), "a page of web");
}

#[test]
fn another_user_sends_no_datagrams_by_a_forward_or_into_an_association() {
    // One that every user may run.
    let python = "/usr/bin/python3";
    if !std::path::Path::new(python).exists() {
        return skipped("no /usr/bin/python3");
    }
    let Some(_) = as_nobody(python) else { return };
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut data = [0; 2048];
        while let Ok((len, from)) = echo.recv_from(&mut data) {
            let _sent = echo.send_to(&data[..len], from);
        }
    });
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.run(&["serve", "udp", "7", &at.to_string()]).ok();
    let (_forward, here) = forwards(&lab, &laptop, &["--udp", "0:web:7"]);
    // Everybody may read it, wherever the interpreter of root lies.
    let script = "import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(float(sys.argv[4]))
s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
s.bind((sys.argv[1],int(sys.argv[5])))
s.sendto(bytes.fromhex(sys.argv[3]),('127.0.0.1',int(sys.argv[2])))
try: print(s.recv(2048).hex())
except TimeoutError: print('nothing')";
    let say = |mut python: Command, source: &IpAddr, port: u16, hex: &str, from: u16| {
        let (source, port) = (source.to_string(), port.to_string());
        let patience = "2";
        python.args([
            "-c",
            script,
            &source,
            &port,
            hex,
            patience,
            &from.to_string(),
        ]);
        run(&mut python, "").ok()
    };
    for source in sources(false) {
        let mine = say(command(python), &source, here.port(), "6d696e65", 0);
        assert_eq!(mine, "6d696e65", "{source}");
        let other = as_nobody(python).unwrap();
        let other = say(other, &source, here.port(), "6f74686572", 0);
        assert_eq!(other, "nothing", "{source}");
    }

    // The first who sends into an association owns it, so it must be who opened it.
    let ip: std::net::Ipv4Addr = web.address.parse().unwrap();
    let header = [&[0, 0, 0, 1], &ip.octets()[..], &[0, 7], b"hello"].concat();
    let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
    let (_control, mine) = associate(laptop.socks);
    let relay = mine.peer_addr().unwrap().port();
    let loopback = "127.0.0.1".parse().unwrap();
    let other = as_nobody(python).unwrap();
    assert_eq!(say(other, &loopback, relay, &hex, 0), "nothing");
    mine.send(&header).unwrap();
    let mut answer = [0; 2048];
    let len = mine.recv(&mut answer).unwrap();
    assert_eq!(answer[..len], header);

    // A port that two users share belongs to neither: the one may send in the other's name.
    let shared = shared_by_reuse();
    let from = shared.local_addr().unwrap().port();
    let other = as_nobody(python).unwrap();
    assert_eq!(
        say(other, &loopback, here.port(), "6f74686572", from),
        "nothing"
    );
}

/// A socket whose port others may take, too.
fn shared_by_reuse() -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.into()
}

#[test]
fn a_unix_socket_is_for_who_may_write_its_file() {
    let Some(_) = as_nobody("curl") else { return };
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    let key = lab.auth_key(&[]);
    // Not below a directory that only we may enter.
    let folder = tempfile::Builder::new().prefix("doors").tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open).unwrap();
    let path = folder.path().join("proxy.sock");
    let place = format!("unix:{}", path.display());
    for (mode, may) in [("0600", false), ("0666", true)] {
        let args = ["--socks", &place, "--socks-unix-mode", mode];
        let by = match may {
            false => crate::lab::KeyBy::File(&key),
            true => crate::lab::KeyBy::Nothing,
        };
        let mut laptop = lab.up_by("laptop", by, &args);
        laptop.sees(&web, true);
        let proxy = format!("socks5h://localhost{}", path.display());
        let mut other = as_nobody("curl").unwrap();
        other.args(["--disable", "-sS", "--max-time", "30", "--proxy", &proxy]);
        let outcome = run(other.arg(format!("http://{}/", web.name)), "");
        assert_eq!(outcome.code == Some(0), may, "{outcome:#?}");
        laptop.program.stop();
    }
}
