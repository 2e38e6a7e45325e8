//! Parts of a deployment are gone for a while: what runs goes on, and what comes back is found again.

use std::fs;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::get;
use crate::lab::{DOMAIN, Device, KeyBy, Lab, NETWORK};
use crate::process::{LONGEST, Program, command, installed, until};
use crate::programs::noise;
use crate::service::Service;

#[test]
fn restarted_devices_need_neither_key_nor_controller() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("still here\n");
    let mut lab = Lab::start();
    let (mut laptop, mut web) = lab.pair();
    web.serve(80, page.address());
    assert_eq!(get(&laptop, "web", 80).ok(), "still here");

    let before = (laptop.address.clone(), web.address.clone());
    for device in [&mut laptop, &mut web] {
        device.run(&["down"]).ok();
        assert!(device.program.ended().success());
    }
    assert!(lab.controller.program.stop().success());
    let web = lab.up_by("web", KeyBy::Nothing, &[]);
    let laptop = lab.up_by("laptop", KeyBy::Nothing, &[]);
    assert_eq!((laptop.address.clone(), web.address.clone()), before);
    assert_eq!(get(&laptop, "web", 80).ok(), "still here");

    let status = laptop.until("the controller missed", |status| {
        status["control"]["state"] == "waiting"
    });
    assert_eq!(status["state"], "running", "{status:#}");
    let error = status["control"]["last_error"].as_str().unwrap();
    assert!(error.contains(&lab.controller.address), "{error}");
    let table = laptop.run(&["status"]).ok();
    assert!(
        table.contains("# The controller is not connected"),
        "{table}"
    );

    // It is found again, and what changes from now on arrives.
    lab.restart_controller();
    for device in [&laptop, &web] {
        device.until("the controller back", |status| {
            status["control"]["state"] == "connected"
        });
    }
    let newcomer = lab.up("newcomer");
    laptop.sees(&newcomer, true);
    assert_eq!(get(&newcomer, "web", 80).ok(), "still here");
}

#[test]
fn a_download_outlives_its_relay() {
    if !installed(&["curl"]) {
        return;
    }
    let mut lab = Lab::start();
    let (laptop, web) = lab.pair();
    let content = Arc::new(noise(DOWNLOAD));
    let (reached, sent) = channel();
    let (go_on, gate) = channel();
    let download = download(Arc::clone(&content), reached, gate);
    web.serve(80, download.address());

    // What comes to the laptop comes by its home relay.
    let home = relay_to(&web, &laptop);
    let place = lab.relays.iter().position(|relay| relay.name == home);
    let place = place.unwrap();

    let file = lab.path("downloaded");
    let url = format!("http://web.{NETWORK}.{DOMAIN}/");
    let args = laptop.curl_args(&["--output", file.to_str().unwrap(), &url]);
    let mut curl = Program::start("curl", &lab.path(""), command("curl").args(args), "");
    sent.recv_timeout(LONGEST).unwrap();
    lab.relays[place].program.kill();
    let size = || fs::metadata(&file).map_or(0, |file| file.len());
    let at_kill = size();
    assert!(at_kill < DOWNLOAD as u64, "it was under way");
    go_on.send(()).unwrap();
    let stall = longest_stall(size);
    assert!(curl.ended().success(), "{}", curl.output());
    assert!(
        fs::read(&file).unwrap() == *content,
        "the bytes must be the same"
    );
    eprintln!(
        "{home} was killed at {at_kill} bytes: the download stood still for {stall:?} at most"
    );
    assert!(stall < STALL_MAX, "{stall:?}");

    // The relay that died comes back and is used again when the other one goes.
    let back = lab.restart_relay(&lab.relays[place]);
    lab.relays[place] = back;
    until("the relay back", LONGEST, || {
        let relays: Value = serde_json::from_str(&lab.admin(&["relays", "--json"])).unwrap();
        let mut relays = relays["relays"].as_array().unwrap().iter();
        relays.all(|relay| relay["online"] == true).then_some(())
    });
    lab.relays[1 - place].program.kill();
    let page = Service::http("by the other\n");
    web.serve(81, page.address());
    let fetched = until("a page by the relay that came back", LONGEST, || {
        let fetched = get(&laptop, "web", 81);
        (fetched.code == Some(0)).then_some(fetched)
    });
    assert_eq!(fetched.ok(), "by the other");
}

/// Size of the download, bytes: more than all buffers on its way hold, so that the end cannot be under way when the relay dies.
const DOWNLOAD: usize = 24 << 20;

/// The relay is killed behind this many bytes.
const KILL_AT: usize = 4 << 20;

/// The rest is sent only when the relay is dead.
const HOLD_AT: usize = 20 << 20;

/// How long a download may stand still when its relay is killed. It is far shorter; a busy machine is no failure.
const STALL_MAX: Duration = Duration::from_secs(20);

/// A web server for one download of `content`. Says when the relay may be killed, and waits until it was.
fn download(content: Arc<Vec<u8>>, reached: Sender<()>, gate: Receiver<()>) -> Service {
    let ends = Mutex::new((reached, gate));
    Service::start(move |mut stream| {
        let (reached, gate) = &*ends.lock().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let mut send = |bytes: &[u8]| stream.write_all(bytes).unwrap();
        send(format!("HTTP/1.1 200 OK\r\nContent-Length: {DOWNLOAD}\r\n\r\n").as_bytes());
        send(&content[..KILL_AT]);
        reached.send(()).unwrap();
        send(&content[KILL_AT..HOLD_AT]);
        gate.recv_timeout(LONGEST).unwrap();
        send(&content[HOLD_AT..]);
    })
}

/// Name of the relay by which `from` reaches `to`.
fn relay_to(from: &Device, to: &Device) -> String {
    let status = from.until("the way", |status| peer(status, to)["relay"].is_string());
    peer(&status, to)["relay"].as_str().unwrap().to_owned()
}

/// `device` in the only network of `status`.
fn peer<'a>(status: &'a Value, device: &Device) -> &'a Value {
    let mut peers = status["networks"][0]["peers"].as_array().unwrap().iter();
    peers.find(|peer| peer["name"] == device.name).unwrap()
}

/// The longest time in which `size` did not change, until it is that of the download.
#[track_caller]
fn longest_stall(size: impl Fn() -> u64) -> Duration {
    let now = || tokio::time::Instant::now().into_std();
    let (mut longest, mut last, mut since) = (Duration::ZERO, size(), now());
    until("the whole download", LONGEST, || {
        longest = longest.max(since.elapsed());
        let size = size();
        if size != last {
            (last, since) = (size, now());
        }
        (size == DOWNLOAD as u64).then_some(())
    });
    longest
}
