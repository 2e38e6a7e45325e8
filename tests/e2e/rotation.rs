//! Rotation of the deployment's keys under use: nothing that runs notices, who was away comes back,
//! and new join strings and old ones both work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::full::connection;
use crate::lab::{Device, KeyBy, Lab};
use crate::process::{LONGEST, run, until};
use crate::service::Service;

/// A service that gives back what it gets.
fn echo() -> Service {
    Service::start(|mut stream: TcpStream| {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
    })
}

/// Sends and gets back, without a pause, until `stop`; the number of rounds.
fn rounds(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    let (said, mut heard) = ([7; 4_096], [0; 4_096]);
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&said).unwrap();
        stream.read_exact(&mut heard).unwrap();
        rounds += 1;
    }
    rounds
}

fn keys(lab: &Lab) -> Value {
    let listed: Value = serde_json::from_str(&lab.admin(&["key", "list", "--json"])).unwrap();
    assert_eq!(listed["schema_version"], 1);
    listed["keys"].clone()
}

/// Waits until so many devices and relays have not said that they know the new CA.
fn without(lab: &Lab, devices: u64, relays: u64) {
    until("the new CA is known", LONGEST, || {
        let before = &keys(lab)[1]["previous"];
        let are = (&before["devices_without"], &before["relays_without"]);
        (are == (&devices.into(), &relays.into())).then_some(())
    });
}

fn stored(device: &Device) -> Value {
    let file = device.state_dir().join("device.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    whole["value"].clone()
}

#[test]
fn both_keys_are_rotated_under_a_transfer_and_nobody_is_left_behind() {
    let mut lab = Lab::start();
    let echo = echo();
    let (laptop, web) = lab.pair();
    let mut away = lab.up("away");
    away.program.stop();
    web.serve(80, echo.address());
    let stream = connection(&laptop, &web.name, 80).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let transfer = {
        let stop = stop.clone();
        thread::spawn(move || rounds(stream, &stop))
    };

    let old = lab.controller.join.clone();
    lab.admin(&["key", "rotate", "ticket"]);
    let new = lab.admin(&["key", "rotate", "ca", "--grace", "2d"]);
    let new = new.trim().to_owned();
    assert!(new != old && new.starts_with("https://127.0.0.1:"), "{new}");
    // All that run learn it; the one that is away does not.
    without(&lab, 1, 0);
    let learnt = stored(&web);
    assert_eq!(learnt["server"], new);
    let pin = old.rsplit_once(':').unwrap().1;
    assert_eq!(learnt["ca_before"], pin);
    run(&mut lab.admin_command(&["key", "rotate", "ca"]), "").refused(1, &["ends in 2 d"]);
    run(&mut lab.admin_command(&["key", "rotate", "ticket"]), "").refused(1, &["two ticket keys"]);

    // It knows the old one only, on its command line and in its state.
    let away = lab.up_by("away", KeyBy::Nothing, &[]);
    without(&lab, 0, 0);
    away.sees(&web, true);
    let mut relay = lab.relays.remove(0);
    relay.program.stop();
    lab.relays.insert(0, lab.restart_relay(&relay));
    without(&lab, 0, 0);
    lab.controller.program.stop();
    lab.restart_controller();
    assert_eq!(lab.controller.join, new);
    let fresh = lab.up("fresh");
    fresh.sees(&web, true);
    without(&lab, 0, 0);
    assert!(stored(&fresh).get("ca_before").is_none());

    stop.store(true, Ordering::Relaxed);
    assert!(transfer.join().unwrap() > 0);
    assert!(connection(&fresh, &web.name, 80).is_some());
}
