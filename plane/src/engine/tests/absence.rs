//! Connections whose other end leaves, sleeps, is started again or is gone for good.

use std::io::ErrorKind;

use overlan_netstack::TcpStream;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn error_of(stream: &TcpStream) -> Option<ErrorKind> {
    match stream.try_read(&mut [0; 16]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => Some(error.kind()),
        Ok(count) => panic!("{count} bytes came"),
    }
}

fn presence(lab: &Lab, of: usize) -> Presence {
    let peer = lab.membership(1 - of).peer(HOSTS[of]).unwrap();
    lab.engine(1 - of).presence(lab.now, &peer)
}

/// Has the controller report side `of` to side `1 - of` as online or offline.
fn reported_online(lab: &mut Lab, of: usize, online: bool) {
    lab.tell(1 - of, |network| {
        network.peers.get_mut(&HOSTS[of]).unwrap().online = online;
    });
}

#[test]
fn idle_connections_end_when_the_peer_was_killed_and_started_again() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, _here) = lab.open(0, &listener);
    lab.pass(10 * SECOND);
    lab.kill(1);
    lab.pass(3 * SECOND);
    lab.start_anew(1);
    // Nobody sends anything: it is asked, and does not know the keys.
    lab.pass(MINUTE + SECOND);
    assert_eq!(error_of(&there), Some(ErrorKind::ConnectionReset));
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
}

#[test]
fn what_is_being_opened_reaches_the_peer_that_was_started_anew() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (old, _here) = lab.open(0, &listener);
    lab.kill(1);
    lab.start_anew(1);
    let listener = lab.listen(1);
    // By keys that nobody has any more; the handshake that follows ends the old connection and not
    // the new one.
    let opened = lab.connect(0, address_of(1), &listener, SECOND);
    let (there, here) = opened.expect("within a second").unwrap();
    assert_eq!(error_of(&old), Some(ErrorKind::ConnectionReset));
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
}

#[test]
fn busy_connections_outlast_the_sleep_of_the_peer() {
    for (sleep, controller) in [(55, true), (55, false), (600, true), (600, false)] {
        let mut lab = Lab::new();
        lab.engine(0).handle_controller(controller);
        let listener = lab.listen(1);
        let (there, here) = lab.open(0, &listener);
        assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
        lab.suspend(1);
        there.try_write(b"said meanwhile").unwrap();
        lab.pass(Duration::from_secs(50));
        reported_online(&mut lab, 1, false);
        if controller {
            assert_eq!(presence(&lab, 1), Presence::Offline);
        }
        lab.pass(Duration::from_secs(sleep - 50));
        lab.resume(1);
        reported_online(&mut lab, 1, true);
        lab.pass(10 * SECOND);
        let mut bytes = [0; 32];
        let count = here.try_read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"said meanwhile", "{sleep} {controller}");
        assert_eq!(pass_bytes(&mut lab, &here, &there).unwrap(), b"overlay");
    }
}

#[test]
fn whoever_slept_itself_keeps_its_connections() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.suspend(0);
    here.try_write(b"said meanwhile").unwrap();
    lab.pass(14 * MINUTE);
    lab.resume(0);
    lab.pass(10 * SECOND);
    let mut bytes = [0; 32];
    assert_eq!(there.try_read(&mut bytes).unwrap(), 14);
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
}

#[test]
fn whoever_only_waits_learns_of_a_death_after_the_patience() {
    for controller in [true, false] {
        let mut lab = Lab::new();
        lab.engine(0).handle_controller(controller);
        let listener = lab.listen(1);
        let (there, _here) = lab.open(0, &listener);
        lab.pass(MINUTE);
        lab.kill(1);
        lab.pass(6 * SECOND);
        reported_online(&mut lab, 1, false);
        lab.pass(PATIENCE - MINUTE);
        assert_eq!(error_of(&there), None, "{controller}");
        lab.pass(3 * MINUTE);
        let error = error_of(&there);
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "{controller}");
    }
}

/// The number of bytes that side 0 sends in ten minutes to side 1, which is gone for good.
fn sent_in_ten_minutes(lab: &mut Lab, controller: bool) -> usize {
    lab.engine(0).handle_controller(controller);
    lab.kill(1);
    lab.pass(40 * SECOND);
    lab.sent.clear();
    lab.pass(10 * MINUTE);
    lab.sent.len()
}

#[test]
fn a_peer_that_is_away_is_sought_rarely_and_only_while_somebody_waits() {
    for controller in [true, false] {
        // Nobody waits: a datagram was lost, and a handshake with it.
        let mut lab = Lab::new();
        lab.attach(0, BACKUP);
        let socket = lab.membership(0).stack().bind_udp(0).unwrap();
        socket.send_to(b"lost", address_of(1)).unwrap();
        assert_eq!(sent_in_ten_minutes(&mut lab, controller), 0, "{controller}");

        // A connection waits, with nothing to say: a question a minute, at each relay and once
        // more.
        let mut lab = Lab::new();
        lab.attach(0, BACKUP);
        let listener = lab.listen(1);
        let (idle, _here) = lab.open(0, &listener);
        let sent = sent_in_ten_minutes(&mut lab, controller);
        assert!(sent <= 10 * 10, "{controller}: {sent}");
        assert_eq!(error_of(&idle), None);

        // Bytes wait.
        let mut lab = Lab::new();
        lab.attach(0, BACKUP);
        let listener = lab.listen(1);
        let (busy, here) = lab.open(0, &listener);
        busy.try_write(b"waits").unwrap();
        let sent = sent_in_ten_minutes(&mut lab, controller);
        assert!((40..120).contains(&sent), "{controller}: {sent}");
        lab.resume(1);
        lab.pass(17 * SECOND);
        assert_eq!(pass_bytes(&mut lab, &busy, &here).unwrap(), b"waitsoverlay");
    }
}

#[test]
fn idle_connections_with_a_peer_that_is_there_cost_a_question_a_minute() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.pass(MINUTE);
    lab.sent.clear();
    lab.pass(60 * MINUTE);
    // Both ask, both answer, and keys are renewed every two minutes.
    assert!(lab.sent.len() < 60 * 8, "{}", lab.sent.len());
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
}

#[test]
fn leaving_ends_connections_at_once_and_is_told_before_links_end() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    here.try_write(b"overlay").unwrap();
    lab.pass(SECOND);
    lab.engine(1).leave(lab.now);
    lab.settle();
    assert_eq!(error_of(&here), Some(ErrorKind::ConnectionAborted));
    let mut bytes = [0; 16];
    assert_eq!(there.try_read(&mut bytes).unwrap(), 7, "what had arrived");
    assert_eq!(error_of(&there), Some(ErrorKind::ConnectionReset));
    assert_eq!(presence(&lab, 1), Presence::Offline);
    let (side, relay, end) = lab.ended.last().unwrap();
    assert_eq!((*side, *relay, end.clone()), (1, HOME, LinkEnd::Left));
}

#[test]
fn who_leaves_while_it_waits_for_credit_still_tells_its_peers() {
    let mut lab = Lab::detached(|_, _| {});
    lab.window = 40_000;
    lab.attach(0, HOME);
    lab.attach(1, HOME);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.pass(SECOND);
    lab.gives_credit = false;
    while here.try_write(&[7; 16_384]).is_ok() {}
    lab.settle();
    assert_eq!(lab.fill(1, HOME), b"", "it waits for credit");
    lab.engine(1).leave(lab.now);
    lab.settle();
    assert_eq!(lab.ended, [], "nothing was reported yet");
    // The receiver has taken what was sent to it.
    lab.gives_credit = true;
    let address = Address {
        vni: VNI.get(),
        flow: 0,
        host: HOSTS[0].get(),
    };
    let released = lab.released(1, HOME);
    let credit = Frame::Credit {
        address,
        released,
        window: 40_000,
    };
    lab.deliver(1, HOME, &credit).unwrap();
    lab.settle();
    while there
        .try_read(&mut [0; 65_536])
        .is_ok_and(|count| count > 0)
    {}
    assert_eq!(error_of(&there), Some(ErrorKind::ConnectionReset));
    assert_eq!(presence(&lab, 1), Presence::Offline);
    assert_eq!(lab.ended, [(1, HOME, LinkEnd::Left)]);
}

#[test]
fn a_connect_that_waits_ends_when_the_peer_leaves() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let _open = lab.open(0, &listener);
    let mut cx = Context::from_waker(Waker::noop());
    let connecting = lab.membership(0).stack().connect(lab.now, address_of(1));
    let mut connecting = Box::pin(connecting.unwrap());
    // The program that owns the listener takes its time.
    lab.pass(SECOND);
    assert!(connecting.as_mut().poll(&mut cx).is_pending());
    lab.engine(1).leave(lab.now);
    lab.settle();
    let Poll::Ready(Err(error)) = connecting.as_mut().poll(&mut cx) else {
        panic!("it still waits");
    };
    assert!(matches!(
        error,
        ConnectError::Unreachable | ConnectError::Refused
    ));
}

#[test]
fn from_disk_alone_nobody_is_there_or_away() {
    let mut lab = Lab::new();
    assert_eq!(presence(&lab, 1), Presence::Online);
    lab.engine(0).handle_controller(false);
    for online in [true, false] {
        reported_online(&mut lab, 1, online);
        assert_eq!(presence(&lab, 1), Presence::Unknown);
    }
    let listener = lab.listen(1);
    lab.open(0, &listener);
    assert_eq!(presence(&lab, 1), Presence::Online, "it answered");
    lab.pass(3 * MINUTE);
}
