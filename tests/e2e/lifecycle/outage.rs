//! Parts of a deployment are gone for a while: what runs goes on, and what comes back is found
//! again.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
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
fn downloads_outlive_their_relay() {
    if !installed(&["curl"]) {
        return;
    }
    let mut lab = Lab::start();
    let (laptop, web) = lab.pair();
    let content = Arc::new(noise(DOWNLOAD));

    // A crash: the relay that died comes back where it was, and later downloads need it again.
    let place = download_without_relay(&lab, (&laptop, &web), &content, Signal::KILL);
    lab.relays[place].program.kill();
    let back = lab.restart_relay(&lab.relays[place]);
    lab.relays[place] = back;
    all_relays_are_online(&lab);

    // With the other one gone for good, the one that was out is as good as new.
    lab.relays[1 - place].program.kill();
    let page = Service::http("by the other\n");
    web.serve(80, page.address());
    let fetched = until("a page by the relay that came back", LONGEST, || {
        let fetched = get(&laptop, "web", 80);
        (fetched.code == Some(0)).then_some(fetched)
    });
    assert_eq!(fetched.ok(), "by the other");
}

#[test]
fn downloads_outlive_one_outage_after_the_other() {
    if !installed(&["curl"]) {
        return;
    }
    let mut lab = Lab::start();
    let (laptop, web) = lab.pair();
    let content = Arc::new(noise(DOWNLOAD));
    let place = download_without_relay(&lab, (&laptop, &web), &content, Signal::KILL);
    lab.relays[place].program.kill();
    let back = lab.restart_relay(&lab.relays[place]);
    lab.relays[place] = back;
    all_relays_are_online(&lab);

    // An update: its operator stops it, and it says goodbye.
    let place = download_without_relay(&lab, (&laptop, &web), &content, Signal::TERM);
    assert!(lab.relays[place].program.ended().success());
    let back = lab.restart_relay(&lab.relays[place]);
    lab.relays[place] = back;
    all_relays_are_online(&lab);

    // A black hole: the host is there no more, and nobody hears that.
    let place = download_without_relay(&lab, (&laptop, &web), &content, Signal::STOP);
    lab.relays[place].program.signal(Signal::CONT);
    all_relays_are_online(&lab);
}

#[test]
fn nobody_who_is_silent_holds_up_the_end() {
    let lab = Lab::start();
    let (mut laptop, mut web) = lab.pair();
    let idle = Service::start(|mut stream| drop(stream.read(&mut [0])));
    web.serve(80, idle.address());
    // A connection that is open on both sides and has nothing to say.
    let mut open = TcpStream::connect(laptop.socks).unwrap();
    open.set_read_timeout(Some(LONGEST)).unwrap();
    let name = format!("web.{NETWORK}.{DOMAIN}");
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend(name.as_bytes());
    request.extend(80_u16.to_be_bytes());
    open.write_all(&request).unwrap();
    let mut reply = [0; 4];
    open.read_exact(&mut reply).unwrap();
    assert_eq!(reply, [5, 0, 5, 0], "accepted, and connected");

    for program in lab.relays.iter().map(|relay| &relay.program) {
        program.signal(Signal::STOP);
    }
    lab.controller.program.signal(Signal::STOP);
    let began = tokio::time::Instant::now().into_std();
    web.run(&["down"]).ok();
    assert!(web.program.ended().success());
    assert!(laptop.program.stop().success());
    let took = began.elapsed();
    eprintln!("two devices went down in {took:?} with nobody to tell");
    assert!(took < DOWN_MAX, "{took:?}");
}

/// The time that two devices may take to go down, one after the other.
const DOWN_MAX: Duration = Duration::from_secs(15);

/// The laptop loads `content` from web while the relay that carries it gets `signal`. Returns which
/// relay that was.
#[track_caller]
fn download_without_relay(
    lab: &Lab,
    (laptop, web): (&Device, &Device),
    content: &Arc<Vec<u8>>,
    signal: Signal,
) -> usize {
    let (reached, sent) = channel();
    let (go_on, gate) = channel();
    let download = download(Arc::clone(content), reached, gate);
    web.serve(8_000, download.address());
    let home = settled(web, laptop);
    let place = lab.relays.iter().position(|relay| relay.name == home);
    let place = place.unwrap();

    let file = lab.path("downloaded");
    let url = format!("http://web.{NETWORK}.{DOMAIN}:8000/");
    let args = laptop.curl_args(&["--output", file.to_str().unwrap(), &url]);
    let mut curl = Program::start("curl", &lab.path(""), command("curl").args(args), "");
    sent.recv_timeout(LONGEST).unwrap();
    lab.relays[place].program.signal(signal);
    let size = || fs::metadata(&file).map_or(0, |file| file.len());
    let at_signal = size();
    assert!(at_signal < DOWNLOAD as u64, "it was under way");
    go_on.send(()).unwrap();
    let stall = longest_stall(size);
    assert!(curl.ended().success(), "{}", curl.output());
    assert!(
        fs::read(&file).unwrap() == **content,
        "the bytes must be the same"
    );
    eprintln!(
        "{home} got {signal:?} at {at_signal} bytes: the download stood still for {stall:?} at most"
    );
    assert!(stall < STALL_MAX, "{stall:?}");
    fs::remove_file(&file).unwrap();
    web.run(&["serve", "remove", "8000"]).ok();
    place
}

#[track_caller]
pub(super) fn all_relays_are_online(lab: &Lab) {
    until("all relays online", LONGEST, || {
        let relays: Value = serde_json::from_str(&lab.admin(&["relays", "--json"])).unwrap();
        let mut relays = relays["relays"].as_array().unwrap().iter();
        relays.all(|relay| relay["online"] == true).then_some(())
    });
}

/// Size of the download, bytes: more than all buffers on its way hold, so that the end cannot be
/// under way when the relay dies.
const DOWNLOAD: usize = 24 << 20;

/// The relay is killed after this many bytes.
const KILL_AT: usize = 4 << 20;

/// The rest is sent only when the relay is dead.
const HOLD_AT: usize = 20 << 20;

/// The time for which a download may stand still when its relay is gone. A black hole is found
/// within 4 s, anything else at once; the rest is for a busy machine, and less than another attempt
/// at the black hole takes.
const STALL_MAX: Duration = Duration::from_secs(10);

/// A web server for one download of `content`. Says when the relay may be killed, and waits until
/// it was.
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

/// Waits until `to` has a link to its home relay, and `from` reaches it there: by a link that is
/// up, or that opens with the first packet. Returns the relay's name.
#[track_caller]
pub(super) fn settled(from: &Device, to: &Device) -> String {
    until("the link to the home relay", LONGEST, || {
        let status = to.status();
        let mut relays = status["relays"].as_array().unwrap().iter();
        let home = relays.find(|relay| relay["home"] == true && relay["state"] == "connected")?;
        let home = home["name"].as_str().unwrap();
        (peer(&from.status(), to)["relay"] == home).then(|| home.to_owned())
    })
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
