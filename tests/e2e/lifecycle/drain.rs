//! A relay is stopped in order while bytes pass over it: who is attached attaches elsewhere first.

#![expect(
    clippy::disallowed_methods,
    reason = "the test times real programs by the real clock"
)]

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::outage::{all_relays_are_online, settled};
use crate::lab::{DOMAIN, Lab, NETWORK};
use crate::process::{Owned, command, installed};
use crate::programs::noise;
use crate::service::Service;

#[test]
fn a_relay_that_drains_under_a_download_costs_no_byte_and_hardly_a_pause() {
    if !installed(&["curl"]) {
        return;
    }
    let mut lab = Lab::start();
    let (laptop, web) = lab.pair();
    let content = Arc::new(noise(CHUNK * CHUNKS));
    let sent = content.clone();
    // For six seconds, which is three times as long as a relay drains.
    let service = Service::start(move |mut stream| {
        let mut request = [0; 1_024];
        let _ = stream.read(&mut request);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
        stream.write_all(head.as_bytes()).unwrap();
        for chunk in sent.chunks(CHUNK) {
            stream.write_all(chunk).unwrap();
            thread::park_timeout(EVERY);
        }
    });
    web.serve(8_000, service.address());
    for _ in 0..2 {
        let home = settled(&web, &laptop);
        let place = lab.relays.iter().position(|it| it.name == home).unwrap();
        let url = format!("http://web.{NETWORK}.{DOMAIN}:8000/");
        let mut curl = command("curl");
        curl.args(laptop.curl_args(&["--no-buffer", &url]));
        let mut curl = curl.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = curl.stdout.take().unwrap();
        let mut curl = Owned::new(curl);
        let (mut got, mut buffer) = (Vec::new(), vec![0; 65_536]);
        let (mut stopped, mut last, mut longest) = (false, Instant::now(), Duration::ZERO);
        loop {
            let count = output.read(&mut buffer).unwrap();
            if stopped {
                longest = longest.max(last.elapsed());
            }
            last = Instant::now();
            if count == 0 {
                break;
            }
            got.extend_from_slice(&buffer[..count]);
            if !stopped && got.len() > CHUNK * CHUNKS / 4 {
                stopped = true;
                lab.relays[place].program.signal(Signal::TERM);
            }
        }
        assert!(curl.ended("curl").success());
        assert!(got == *content, "the bytes must be the same");
        eprintln!("{home} drained: the download stood still for {longest:?} at most");
        assert!(longest < STALL_MAX, "{longest:?}");
        assert!(lab.relays[place].program.ended().success());
        let back = lab.restart_relay(&lab.relays[place]);
        lab.relays[place] = back;
        all_relays_are_online(&lab);
    }
}

const CHUNK: usize = 20_000;

const CHUNKS: usize = 300;

const EVERY: Duration = Duration::from_millis(20);

/// Nothing has to be found out: the rest is for a busy machine, and less than what silence takes.
const STALL_MAX: Duration = Duration::from_secs(3);
