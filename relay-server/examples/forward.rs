//! Measures forwarding: two clients on loopback, one relay between them, all in this process.
//! Prints throughput, and the CPU seconds per GiB of the relay's own threads.
//!
//! `cargo run --release -p overlan-relay --example forward [seconds]`

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

#[path = "../src/tests/lab.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod lab;

use std::time::{Duration, SystemTime};

use overlan_protocol::UnixTime;
use overlan_protocol::credit::SendCredit;
use overlan_protocol::frame::{Address, BODY_MAX, Frame, decode};
use overlan_relay::{Config, Relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use lab::{Device, Heard, Lab, Wire};

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(5));
    let state = tempfile::tempdir().expect("a temporary directory");
    let lab = Lab::new();
    // A runtime of its own, so that the relay's threads can be counted apart from the clients'.
    let relay_runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("relay")
        .enable_all()
        .build()
        .expect("a runtime");
    let stop = CancellationToken::new();
    let relay = relay_runtime
        .block_on(Relay::bind(lab.config(state.path())))
        .expect("a relay");
    let (address, pin) = (relay.local_addr(), relay.pins()[0]);
    let running = relay_runtime.spawn(relay.run(stop.clone()));

    let clients = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("client")
        .enable_all()
        .build()
        .expect("a runtime");
    for message in [16_352, 1_400] {
        let cpu = relay_cpu();
        let bytes = clients.block_on(async {
            let mut wires = Vec::new();
            for host in [1, 2] {
                let device = Device::new(&[(NET, host)]);
                let ticket = lab.sign(&lab.ticket(&device, wall_clock()));
                let mut wire = Wire::connect(address, pin).await;
                let answer = wire.hello(&device.secret, lab.relay, &ticket, 1).await;
                let Heard::Welcome(welcome) = answer else {
                    panic!("{answer:?}");
                };
                wires.push((wire, welcome.credit_window));
            }
            let (receiver, _) = wires.pop().expect("two clients");
            let (sender, window) = wires.pop().expect("two clients");
            transfer(sender, receiver, window, message, time).await
        });
        let gib = bytes as f64 / f64::from(1 << 30);
        let cpu = relay_cpu() - cpu;
        println!(
            "messages of {message} bytes: {:.2} Gbit/s, {:.3} CPU-s of the relay per GiB",
            bytes as f64 * 8.0 / 1e9 / time.as_secs_f64(),
            cpu / gib,
        );
    }
    stop.cancel();
    relay_runtime
        .block_on(running)
        .expect("the relay ends cleanly");
}

/// Sends for `time` as credit allows; returns the bytes of messages that arrived.
async fn transfer(
    sender: Wire,
    receiver: Wire,
    window: u32,
    message: usize,
    time: Duration,
) -> u64 {
    let end = tokio::time::Instant::now() + time;
    let (mut credit_in, mut data_out) = tokio::io::split(sender.stream);
    let sending = async move {
        let message = vec![0x5a; message];
        let address = Address {
            vni: NET,
            flow: 1,
            host: 2,
        };
        let mut one = Vec::new();
        Frame::Data {
            address,
            message: &message,
        }
        .encode(&mut one);
        let mut credit = SendCredit::new(window);
        let mut heard = Vec::new();
        let mut windows = (u32::MAX, 0, 0_u64, 0_u64);
        while tokio::time::Instant::now() < end {
            let mut batch = Vec::new();
            while credit.may_send() && batch.len() < 256 * 1024 {
                batch.extend_from_slice(&one);
                credit.handle_sent(one.len());
            }
            if batch.is_empty() {
                let read = credit_in
                    .read_buf(&mut heard)
                    .await
                    .expect("the relay lives");
                assert!(read > 0, "the relay closed");
                take_credit(&mut heard, &mut credit, &mut windows);
            } else {
                data_out.write_all(&batch).await.expect("the relay reads");
                data_out.flush().await.expect("the relay reads");
            }
        }
        let (smallest, largest, sum, count) = windows;
        println!(
            "{count} announcements; windows of {} to {} KiB, {} on average",
            smallest / 1_024,
            largest / 1_024,
            sum / count.max(1) / 1_024,
        );
    };
    let receiving = async move {
        let mut stream = receiver.stream;
        let mut buffer = vec![0; 256 * 1024];
        let mut bytes = 0;
        loop {
            let read = tokio::time::timeout_at(end, stream.read(&mut buffer)).await;
            match read {
                Ok(Ok(read)) if read > 0 => bytes += read as u64,
                _ => return bytes,
            }
        }
    };
    let receiving = tokio::spawn(receiving);
    sending.await;
    receiving.await.expect("the receiver's task ends")
}

/// `windows`: smallest, largest, sum and number of those announced.
fn take_credit(heard: &mut Vec<u8>, credit: &mut SendCredit, windows: &mut (u32, u32, u64, u64)) {
    let mut taken = 0;
    while let Some((frame, length)) =
        decode(&heard[taken..], BODY_MAX).expect("the relay speaks the protocol")
    {
        taken += length;
        if let Frame::Credit {
            released, window, ..
        } = frame
        {
            credit
                .handle_credit(released, window)
                .expect("true announcements");
            windows.0 = windows.0.min(window);
            windows.1 = windows.1.max(window);
            windows.2 += u64::from(window);
            windows.3 += 1;
        }
    }
    heard.drain(..taken);
}

/// User and system time of the relay's threads so far, seconds. Linux only; elsewhere 0.
fn relay_cpu() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    let mut ticks = 0;
    for task in tasks.flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        // `pid (name) state …`: fields 14 and 15 are the times, the name may hold anything but the
        // last parenthesis.
        let Some((head, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        if head.ends_with("(relay") {
            let times = rest.split(' ').skip(11).take(2);
            ticks += times
                .filter_map(|time| time.parse::<u64>().ok())
                .sum::<u64>();
        }
    }
    ticks as f64 / TICKS_PER_SEC
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program that signs tickets needs the time"
)]
fn wall_clock() -> UnixTime {
    SystemTime::now().into()
}

const NET: u32 = 0x1000;

/// Clock ticks per second of Linux on every architecture that matters here.
const TICKS_PER_SEC: f64 = 100.0;
