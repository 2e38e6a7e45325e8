//! `nc` in pipes: for ssh, for files and for datagrams, and its end when nothing can be carried.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::piped;
use crate::lab::Lab;
use crate::process::{LONGEST, Owned, command, installed, run};
use crate::programs::{noise, ssh};
use crate::service::Service;

#[test]
fn ssh_and_scp_work_through_nc_as_proxy_command() {
    if !installed(&["ssh", "sshd", "ssh-keygen", "scp", "sha256sum"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let keys = ssh::Keys::make(directory.path());
    let sshd = keys.serve();
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(22, sshd.address());
    let proxy = format!(
        "{} nc --state-dir {} %h %p",
        env!("CARGO_BIN_EXE_overlan"),
        laptop.state_dir().display()
    );
    let config = keys.client_config(&proxy);

    let text = "a line of text that goes there and back\n".repeat(25_000);
    let ssh = run(
        command("ssh").args(["-F", &config, "web", "cat; exit 7"]),
        &text,
    );
    assert_eq!(ssh.code, Some(7), "{}", ssh.stderr);
    assert!(ssh.stdout == text, "1 MB through ssh differs");

    let here = directory.path().join("here");
    let there = directory.path().join("there");
    let back = directory.path().join("back");
    fs::write(&here, noise(20 << 20)).unwrap();
    let remote = format!("web:{}", there.display());
    let mut scp = command("scp");
    run(scp.args(["-q", "-F", &config]).arg(&here).arg(&remote), "").ok();
    let mut scp = command("scp");
    run(scp.args(["-q", "-F", &config, &remote]).arg(&back), "").ok();
    assert_eq!(sha256(&there), sha256(&here), "20 MiB by scp to web");
    assert_eq!(sha256(&back), sha256(&here), "20 MiB by scp from web");
}

#[test]
fn nc_closes_each_side_by_itself() {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    // Answers only once it has seen the end of what it is sent.
    let counts = Service::start(|mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        write!(stream, "{} bytes", bytes.len()).unwrap();
    });
    // Says all it has to say and closes, then still reads to the end.
    let (heard, hears) = mpsc::channel();
    let greets = Service::start(move |mut stream| {
        stream.write_all(&noise(3 << 20)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        heard.send(bytes).unwrap();
    });
    web.serve(7, counts.address());
    web.serve(8, greets.address());

    let sent = "x".repeat(5 << 20);
    let answer = run(&mut laptop.command(&["nc", "web", "7"]), &sent).ok();
    assert_eq!(answer, format!("{} bytes", sent.len()));

    // Standard input stays open until the other side's end was seen.
    let mut nc = piped(&laptop, &["nc", "web", "8"]);
    let mut greeting = Vec::new();
    nc.output.read_to_end(&mut greeting).unwrap();
    assert!(greeting == noise(3 << 20), "the greeting differs");
    let answer = noise(2 << 20);
    nc.input.write_all(&answer).unwrap();
    drop(nc.input);
    assert!(nc.child.ended("nc").success());
    assert!(hears.recv_timeout(LONGEST).unwrap() == answer);
}

#[test]
fn nc_says_why_there_is_no_connection() {
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    // Its last handle goes with linger 0: a reset. A `Service` would close in order first.
    let resets = TcpListener::bind("127.0.0.1:0").unwrap();
    web.serve(9, resets.local_addr().unwrap());
    let resetting = thread::spawn(move || {
        let (mut stream, _) = resets.accept().unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let quiet = Service::start(|mut stream| {
        stream.read_to_end(&mut Vec::new()).ok();
    });
    web.serve(10, quiet.address());

    laptop
        .run(&["nc", "web", "22"])
        .refused(1, &["refused", "overlan serve tcp"]);
    laptop
        .run(&["nc", "nobody", "22"])
        .refused(1, &["nobody", "overlan status"]);
    let foreign = laptop.run(&["nc", "example.com", "22"]);
    foreign.refused(1, &["outside the overlay"]);
    laptop.run(&["nc", "web"]).refused(2, &["PORT"]);
    let mut reset = piped(&laptop, &["nc", "web", "9"]);
    reset.input.write_all(b"some").unwrap();
    resetting.join().unwrap();
    let mut said = String::new();
    assert_eq!(reset.child.ended("nc").code(), Some(1));
    reset.errors.read_to_string(&mut said).unwrap();
    assert!(said.contains("the peer reset the connection"), "{said}");
    // Standard input is open and says nothing, as a terminal does.
    let mut silent = piped(&laptop, &["nc", "-w", "1", "web", "10"]);
    let mut said = String::new();
    assert_eq!(silent.child.ended("nc").code(), Some(7));
    silent.errors.read_to_string(&mut said).unwrap();
    assert!(said.contains("silent"), "{said}");

    assert!(web.program.stop().success());
    laptop.sees(&web, false);
    laptop.run(&["nc", "web", "9"]).refused(1, &["offline"]);
}

#[test]
fn nc_ends_with_the_client_that_carries_it() {
    let lab = Lab::start();
    let (mut laptop, web) = lab.pair();
    let echo = Service::start(|stream| {
        let _copied = io::copy(&mut &stream, &mut &stream);
    });
    web.serve(7, echo.address());
    let talking = || {
        let mut nc = piped(&laptop, &["nc", "web", "7"]);
        nc.input.write_all(b"ping").unwrap();
        let mut echoed = [0; 4];
        nc.output.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"ping");
        nc
    };
    let mut nc = talking();
    laptop.program.kill();
    assert_eq!(nc.child.ended("nc").code(), Some(3));
    let mut said = String::new();
    nc.errors.read_to_string(&mut said).unwrap();
    assert!(said.contains("overlan up"), "{said}");
}

#[test]
fn nc_listens_for_one_peer() {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let file = lab.path("received");
    let mut nc = web.command(&["nc", "-l", "-v", "9000"]);
    nc.stdin(Stdio::null()).stdout(File::create(&file).unwrap());
    let mut child = nc.stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let mut listener = Owned::new(child);
    hears(&mut errors, "listening on overlay port 9000");
    let taken = web.run(&["nc", "-l", "9000"]);
    taken.refused(1, &["9000 is taken"]);
    let sent = lab.path("sent");
    fs::write(&sent, noise(4 << 20)).unwrap();
    let mut nc = laptop.command(&["nc", "web", "9000"]);
    let child = nc.stdin(File::open(&sent).unwrap()).spawn().unwrap();
    assert!(Owned::new(child).ended("nc").success());
    assert!(listener.ended("nc -l").success());
    assert!(fs::read(&file).unwrap() == fs::read(&sent).unwrap());
    // The port is free again, and one peer was all.
    laptop.run(&["nc", "web", "9000"]).refused(1, &["refused"]);
}

#[test]
fn nc_carries_datagrams_one_by_one() {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let mut there = piped(&web, &["nc", "-l", "-u", "-v", "9001"]);
    hears(&mut there.errors, "listening on overlay port 9001");
    let mut here = piped(&laptop, &["nc", "-u", "-v", "web", "9001"]);
    hears(&mut here.errors, "connected with");
    let mut buffer = vec![0; 64 * 1024];
    for len in [1, 1_200, 9_000] {
        let datagram = noise(len);
        here.input.write_all(&datagram).unwrap();
        let read = there.output.read(&mut buffer).unwrap();
        assert!(buffer[..read] == datagram, "{len} bytes to web");
        there.input.write_all(&datagram).unwrap();
        let read = here.output.read(&mut buffer).unwrap();
        assert!(buffer[..read] == datagram, "{len} bytes from web");
    }
    let mut nobody = piped(&laptop, &["nc", "-u", "web", "9002"]);
    nobody.input.write_all(b"anybody?").unwrap();
    assert_eq!(nobody.child.ended("nc -u").code(), Some(1));
}

/// Waits for a line that holds `text`.
fn hears(errors: &mut ChildStderr, text: &str) {
    let mut line = String::new();
    let mut byte = [0];
    while !line.ends_with('\n') {
        errors.read_exact(&mut byte).unwrap();
        line.push(char::from(byte[0]));
    }
    assert!(line.contains(text), "not {text:?} in {line:?}");
}

fn sha256(file: &Path) -> String {
    let line = run(command("sha256sum").arg("--").arg(file), "").ok();
    line.split(' ').next().unwrap().to_owned()
}
