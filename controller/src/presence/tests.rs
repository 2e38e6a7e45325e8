use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

fn came(number: u8) -> Transition {
    Transition {
        device: device(number),
        online: true,
    }
}

fn went(number: u8) -> Transition {
    Transition {
        device: device(number),
        online: false,
    }
}

#[test]
fn a_stream_makes_a_device_online_once() {
    let t0 = start();
    let mut presence = Presence::new(GRACE);
    presence.handle_open(device(1));
    presence.handle_open(device(1));
    assert_eq!(presence.deadline(t0), Some(t0));
    assert_eq!(presence.due(t0, 10), [came(1)]);
    assert_eq!(presence.due(t0, 10), []);
    assert_eq!(presence.deadline(t0), None);
}

#[test]
fn a_device_goes_when_its_last_stream_is_closed_for_the_grace() {
    let t0 = start();
    let mut presence = Presence::new(GRACE);
    presence.handle_open(device(1));
    presence.handle_open(device(1));
    presence.due(t0, 10);
    presence.handle_close(t0, device(1));
    assert_eq!(presence.deadline(t0), None, "one stream is left");
    presence.handle_close(t0, device(1));
    assert_eq!(presence.deadline(t0), Some(t0 + GRACE));
    assert_eq!(presence.due(t0 + GRACE / 2, 10), []);
    assert_eq!(presence.due(t0 + GRACE, 10), [went(1)]);
}

#[test]
fn a_reconnect_within_the_grace_shows_nothing() {
    let t0 = start();
    let mut presence = Presence::new(GRACE);
    presence.handle_open(device(1));
    presence.due(t0, 10);
    presence.handle_close(t0, device(1));
    presence.handle_open(device(1));
    assert_eq!(presence.due(t0 + GRACE * 9, 10), []);
    assert!(presence.is_attached(device(1)));
}

#[test]
fn what_could_not_be_written_is_reported_again() {
    let t0 = start();
    let mut presence = Presence::new(GRACE);
    presence.handle_open(device(1));
    let transitions = presence.due(t0, 10);
    presence.retry(t0, &transitions);
    assert_eq!(presence.due(t0, 10), [came(1)]);
    presence.handle_close(t0, device(1));
    let transitions = presence.due(t0 + GRACE, 10);
    presence.retry(t0 + GRACE * 2, &transitions);
    assert_eq!(presence.due(t0 + GRACE * 2, 10), [went(1)]);
}

#[test]
fn a_restored_device_that_stays_away_goes() {
    let t0 = start();
    let mut presence = Presence::new(GRACE);
    presence.restore(device(1), t0 + GRACE);
    presence.restore(device(2), t0 + GRACE);
    presence.handle_open(device(2));
    assert_eq!(presence.due(t0 + GRACE, 10), [went(1)]);
}

#[test]
fn a_batch_is_bounded() {
    let t0 = start();
    let mut presence = Presence::new(GRACE);
    for number in 0..5 {
        presence.handle_open(device(number));
    }
    assert_eq!(presence.due(t0, 3).len(), 3);
    assert_eq!(presence.due(t0, 3).len(), 2);
}

#[test]
fn who_says_that_it_ends_has_no_grace_and_may_come_back() {
    let t0 = start();
    let mut presence = Presence::new(GRACE);
    presence.handle_open(device(1));
    assert_eq!(presence.due(t0, 10).len(), 1);
    presence.handle_leaving(t0, device(1));
    assert_eq!(presence.due(t0, 10), [], "its stream is still open");
    presence.handle_close(t0, device(1));
    assert_eq!(presence.due(t0, 10), [went(1)]);

    presence.handle_open(device(1));
    assert_eq!(presence.due(t0, 10).len(), 1);
    presence.handle_close(t0, device(1));
    assert_eq!(presence.due(t0, 10), [], "an ordinary end has its grace");
    presence.handle_leaving(t0, device(1));
    assert_eq!(presence.due(t0, 10), [went(1)], "reported a little late");
    presence.handle_leaving(t0, device(1));
    assert_eq!(presence.due(t0, 10), []);
}
