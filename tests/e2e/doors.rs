//! The proxy as programs meet it: SOCKS5 with datagrams and bound ports, HTTP on the same port,
//! Unix sockets, passwords.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use crate::lab::{DOMAIN, KeyBy, Lab};
use crate::process::{LONGEST, Owned, command, installed, overlan, python_with, repository, run};
use crate::service::Service;

#[test]
fn curl_and_wget_use_the_same_port_as_an_http_proxy() {
    if !installed(&["curl", "wget"]) {
        return;
    }
    let web_name = format!("web.home.{DOMAIN}");
    let plain = Service::http("a page of web\n");
    let (tls, certificate) = Service::https("a page over TLS\n", &web_name);
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, plain.address());
    web.serve(443, tls.address());
    let trusted = lab.path("web.pem");
    fs::write(&trusted, certificate).unwrap();
    let trusted = trusted.to_str().unwrap();

    let proxy = format!("http://{}", laptop.socks);
    let curl = |args: &[&str]| {
        let first = [
            "--disable",
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--proxy",
            &proxy,
        ];
        run(command("curl").args(first).args(args), "")
    };
    let url = format!("http://{web_name}/");
    let secure = format!("https://{web_name}/");
    assert_eq!(curl(&[&url]).ok(), "a page of web");
    assert_eq!(curl(&["--proxytunnel", &url]).ok(), "a page of web");
    assert_eq!(
        curl(&["--cacert", trusted, &secure]).ok(),
        "a page over TLS"
    );
    let v6 = web.run(&["ip", "-6"]).ok();
    assert_eq!(curl(&[&format!("http://[{v6}]/")]).ok(), "a page of web");
    // The connection with the proxy stays for the second page.
    let made = curl(&[
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-w",
        "%{num_connects} ",
        &url,
        &url,
    ]);
    assert_eq!(made.ok(), "1 0");

    let told = curl(&["--fail-with-body", &format!("http://{web_name}:81/")]);
    assert_eq!(told.code, Some(22), "{}", told.stderr);
    assert!(
        told.stdout.contains("overlan serve list"),
        "{}",
        told.stdout
    );
    let status = |url: &str| curl(&["-o", "/dev/null", "-w", "%{http_code}", url]).ok();
    assert_eq!(status(&format!("http://{web_name}:81/")), "502");
    assert_eq!(status(&format!("http://nobody.home.{DOMAIN}/")), "502");
    assert_eq!(status("http://example.org/"), "403");
    assert_eq!(status(&format!("http://{}/", laptop.socks)), "403");

    let wget = |url: &str| {
        let mut wget = command("wget");
        wget.args([
            "--no-config",
            "-q",
            "-O",
            "-",
            "-T",
            "30",
            "-t",
            "1",
            "--ca-certificate",
            trusted,
        ]);
        run(
            wget.arg(url)
                .env("http_proxy", &proxy)
                .env("https_proxy", &proxy),
            "",
        )
    };
    assert_eq!(wget(&url).ok(), "a page of web");
    assert_eq!(wget(&secure).ok(), "a page over TLS");
    assert_eq!(wget(&format!("http://{web_name}:81/")).code, Some(8));

    // `exec` gives both kinds of proxy, and wget knows only one of them.
    let mut exec = overlan();
    exec.args(["exec", "--state-dir"]).arg(laptop.state_dir());
    exec.args(["--", "wget", "--no-config", "-q", "-O", "-", &url]);
    assert_eq!(run(&mut exec, "").ok(), "a page of web");
}

#[test]
fn a_password_is_asked_for_by_both_protocols() {
    if !installed(&["curl", "wget"]) {
        return;
    }
    let plain = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, plain.address());
    let file = lab.path("password");
    fs::write(&file, "a long password\n").unwrap();
    let key = lab.auth_key(&[]);
    let user = [
        "--socks-user",
        "ci",
        "--socks-password-file",
        file.to_str().unwrap(),
    ];
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &user);
    laptop.sees(&web, true);

    let url = format!("http://web.home.{DOMAIN}/");
    let at = laptop.socks;
    let curl = |proxy: &str| {
        let args = [
            "--disable",
            "-sS",
            "--fail",
            "--max-time",
            "30",
            "--proxy",
            proxy,
            &url,
        ];
        run(command("curl").args(args), "")
    };
    for scheme in ["http", "socks5h"] {
        let right = curl(&format!("{scheme}://ci:a%20long%20password@{at}"));
        assert_eq!(right.ok(), "a page of web", "{scheme}");
        for wrong in ["", "ci:wrong@", "root:a%20long%20password@"] {
            let refused = curl(&format!("{scheme}://{wrong}{at}"));
            assert!(
                matches!(refused.code, Some(22 | 97)),
                "{scheme} {wrong} {:?}",
                refused.code
            );
        }
    }
    let mut wget = command("wget");
    wget.args([
        "--no-config",
        "-q",
        "-O",
        "-",
        "--proxy-user=ci",
        "--proxy-password=a long password",
        &url,
    ]);
    assert_eq!(
        run(wget.env("http_proxy", format!("http://{at}")), "").ok(),
        "a page of web"
    );
}

#[test]
fn curl_reaches_the_overlay_by_a_unix_socket() {
    if !installed(&["curl"]) {
        return;
    }
    let plain = Service::http("a page of web\n");
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, plain.address());
    let key = lab.auth_key(&[]);
    let path = lab.path("proxy.sock");
    let place = format!("unix:{}", path.display());
    let mut laptop = lab.up_by(
        "laptop",
        KeyBy::File(&key),
        &["--socks", &place, "--socks-unix-mode", "0660"],
    );
    laptop.sees(&web, true);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let proxy = format!("socks5h://localhost{}", path.display());
    let url = format!("http://web.home.{DOMAIN}/");
    let curl = |proxy: &str| {
        let args = [
            "--disable",
            "-sS",
            "--fail",
            "--max-time",
            "30",
            "--proxy",
            proxy,
            &url,
        ];
        run(command("curl").args(args), "")
    };
    assert_eq!(curl(&proxy).ok(), "a page of web");
    assert_eq!(
        curl(&format!("socks5h://{}", laptop.socks)).ok(),
        "a page of web"
    );
    laptop.program.stop();
    assert!(!path.exists(), "the file stays");
}

/// A program of this folder.
fn script(name: &str) -> PathBuf {
    let folder = repository("tests/e2e/doors");
    folder.join(name)
}

#[test]
fn java_programs_use_both_protocols_and_hear_the_true_reason() {
    // The second comes with the compiler, by which the first runs a source file.
    if !installed(&["java", "javac"]) {
        return;
    }
    let plain = Service::http("a page of web\n");
    let counts = Service::start(|mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        write!(stream, "{} bytes", bytes.len()).unwrap();
    });
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, plain.address());
    web.serve(7, counts.address());
    let port = laptop.socks.port().to_string();
    let mut java = command("java");
    // No more of the machine than a program of one page needs.
    java.args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
    ]);
    let said = run(java.arg(script("Tcp.java")).args([&port, &web.name]), "").ok();
    let said: Vec<&str> = said.lines().collect();
    let expected = ["7 bytes", "SOCKS: Connection refused", "a page of web"];
    assert_eq!(said, expected);
}

#[test]
fn python_programs_use_pysocks_for_connections_and_datagrams() {
    let Some(python) = python_with("socks") else {
        return;
    };
    let plain = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, plain.address());
    let port = laptop.socks.port().to_string();
    let said = run(
        command(&python)
            .arg(script("tcp.py"))
            .args([&port, &web.name]),
        "",
    )
    .ok();
    let (page, error) = said.split_once('\n').unwrap();
    assert_eq!(page.trim(), "a page of web");
    assert!(
        error.contains("0x05") && error.contains("refused"),
        "{error}"
    );

    let mut echo = web.command(&["nc", "-l", "-u", "-v", "9001"]);
    let mut echo = echo
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (echo.stdin.take().unwrap(), echo.stdout.take().unwrap());
    let mut errors = BufReader::new(echo.stderr.take().unwrap());
    let _echo = Owned::new(echo);
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.contains("listening on overlay port 9001"), "{line}");
    let answering = thread::spawn(move || {
        let mut buffer = [0; 4096];
        let len = output.read(&mut buffer).unwrap();
        input.write_all(&buffer[..len]).unwrap();
    });
    let mut client = command(&python);
    client
        .arg(script("udp.py"))
        .args([&port, &web.name, "9001", "a datagram"]);
    let said = run(&mut client, "").ok();
    assert_eq!(said, format!("a datagram {} 9001", web.address));
    answering.join().unwrap();
}

#[test]
fn node_fetches_tunnels_and_upgrades() {
    if !installed(&["node"]) {
        return;
    }
    let plain = Service::http("a page of web\n");
    let shouts = Service::start(|mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
        stream.write_all(answer).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        stream.write_all(said.to_uppercase().as_bytes()).unwrap();
    });
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, plain.address());
    web.serve(90, shouts.address());
    let port = laptop.socks.port().to_string();
    let said = run(
        command("node")
            .arg(script("upgrade.js"))
            .args([&port, &web.name]),
        "",
    )
    .ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        ["200 a page of web", "200 a page of web", "101 HELLO"]
    );
}

#[test]
fn dig_asks_the_resolver_through_an_association() {
    if !installed(&["dig"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    // dig speaks no SOCKS: what it sends to `own` goes on through an association, wrapped, to the
    // device's resolver.
    let own = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = own.local_addr().unwrap();
    let (control, association) = associate(laptop.socks);
    let resolver = laptop.dns.port().to_be_bytes();
    let header = [0, 0, 0, 1, 127, 0, 0, 1, resolver[0], resolver[1]];
    let passing = thread::spawn(move || {
        let mut buffer = [0; 4096];
        for _ in 0..2 {
            let (len, dig) = own.recv_from(&mut buffer).unwrap();
            association
                .send(&[&header, &buffer[..len]].concat())
                .unwrap();
            let len = association.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..10], header, "who answers");
            own.send_to(&buffer[10..len], dig).unwrap();
        }
        drop(control);
    });
    let port = at.port().to_string();
    for (kind, answer) in [("A", &web.address), ("AAAA", &web.run(&["ip", "-6"]).ok())] {
        let args = [
            "@127.0.0.1",
            "-p",
            &port,
            "+short",
            "+tries=1",
            "+timeout=30",
            &web.name,
            kind,
        ];
        assert_eq!(&run(command("dig").args(args), "").ok(), answer);
    }
    passing.join().unwrap();
}

/// A UDP association with the proxy, and a socket for it. It lives as long as the connection.
pub(crate) fn associate(proxy: SocketAddr) -> (TcpStream, UdpSocket) {
    let mut control = dialogue(proxy, &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
    let at = granted(&mut control);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LONGEST)).unwrap();
    socket.connect(at).unwrap();
    (control, socket)
}

/// A connection with the proxy on which `request` was made.
fn dialogue(proxy: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    stream.write_all(&[&[5, 1, 0], request].concat()).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    stream
}

/// The IPv4 address in the next reply, which must be a good one.
fn granted(stream: &mut TcpStream) -> SocketAddr {
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [5, 0, 0, 1], "{reply:?}");
    let ip = Ipv4Addr::new(reply[4], reply[5], reply[6], reply[7]);
    SocketAddr::from((ip, u16::from_be_bytes([reply[8], reply[9]])))
}

#[test]
fn a_bound_port_is_open_for_the_one_peer_that_it_was_asked_for() {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let other = lab.up("other");
    other.sees(&laptop, true);
    let ip: Ipv4Addr = web.address.parse().unwrap();
    let request = [&[5, 2, 0, 1], &ip.octets()[..], &[0, 0]].concat();
    let mut client = dialogue(laptop.socks, &request);
    let at = granted(&mut client);
    assert_eq!(at.ip().to_string(), laptop.address);
    let port = at.port().to_string();

    let refused = run(&mut other.command(&["nc", "laptop", &port]), "");
    assert_ne!(refused.code, Some(0), "another peer came in");
    let talking = thread::spawn(move || {
        let from = granted(&mut client);
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        client.write_all(b"heard").unwrap();
        (from, said)
    });
    let said = run(&mut web.command(&["nc", "laptop", &port]), "hello").ok();
    assert_eq!(said, "heard");
    let (from, said) = talking.join().unwrap();
    assert_eq!(
        (from.ip().to_string(), said.as_str()),
        (web.address.clone(), "hello")
    );
}

#[test]
fn an_address_of_ipv4_written_as_one_of_ipv6_leads_to_the_same_device() {
    if !installed(&["curl"]) {
        return;
    }
    let plain = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, plain.address());
    let mapped = format!("::ffff:{}", web.address);
    let url = format!("http://[{mapped}]/");
    for kind in ["socks5h", "http"] {
        let proxy = format!("{kind}://{}", laptop.socks);
        for tunnel in [&["--fail"][..], &["--proxytunnel"]] {
            let mut curl = command("curl");
            curl.args(["--disable", "-sS", "--max-time", "15", "--proxy", &proxy]);
            let outcome = run(curl.args(tunnel).arg(&url), "");
            assert_eq!(outcome.ok(), "a page of web", "{kind} {tunnel:?}");
        }
    }
    let request = "GET / HTTP/1.0\r\n\r\n";
    let args = ["nc", "-w", "15", &mapped, "80"];
    let page = run(&mut laptop.command(&args), request).ok();
    assert!(page.ends_with("a page of web"), "{page}");
    assert!(
        laptop
            .run(&["ping", "-c", "1", &mapped])
            .ok()
            .contains(&web.address)
    );
}
