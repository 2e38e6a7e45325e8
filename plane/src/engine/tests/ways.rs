//! Peers that are at their backup, move, or are nowhere: over which relay their packets go.

use super::*;

#[test]
fn a_peer_that_is_not_at_its_home_is_reached_over_its_backup() {
    let mut lab = Lab::detached(|_, _| {});
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let opened = lab.connect(0, address_of(1), &listener, SECOND);
    let (there, here) = opened.expect("at once").unwrap();
    let first = lab.sent.iter().find(|(from, _, _)| *from == 0).unwrap();
    assert_eq!(first.1, HOME, "the home is asked first");
    let peer = lab.membership(0).peer(HOSTS[1]).unwrap();
    assert_eq!(peer.via(), Some(BACKUP));
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
}

#[test]
fn a_peer_that_moves_to_its_backup_keeps_its_streams() {
    let mut lab = Lab::new();
    lab.attach(0, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.end(1, HOME, LinkEnd::Drained);
    lab.attach(1, BACKUP);
    there.try_write(b"overlay").unwrap();
    lab.pass(SECOND);
    let mut bytes = [0; 16];
    assert_eq!(here.try_read(&mut bytes).unwrap(), 7);
    assert_eq!(pass_bytes(&mut lab, &here, &there).unwrap(), b"overlay");
}

/// The relay has not noticed that a link ended, and would take for a while what nobody gets.
#[test]
fn who_moved_tells_its_peers_where_it_can_and_they_send_there_at_once() {
    // Side 0 lives where side 1 has its backup.
    let mut lab = Lab::with(|index, network| match index {
        0 => network.relays = vec![BACKUP, HOME],
        _ => network.peers.get_mut(&HOSTS[0]).unwrap().relays = vec![BACKUP, HOME],
    });
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    lab.zombies.push((1, HOME));
    there.try_write(b"lost").unwrap();
    lab.settle();
    assert!(here.try_read(&mut [0; 16]).is_err(), "the relay keeps it");
    lab.end(1, HOME, LinkEnd::Silent);
    lab.sent.clear();
    lab.settle();
    let mut bytes = [0; 16];
    let count = here.try_read(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"lost", "without any time passing");
    assert!(lab.sent.iter().all(|(_, relay, _)| *relay == BACKUP));
    // It comes home, and says nothing; after a while it is reached there.
    lab.zombies.clear();
    lab.attach(1, HOME);
    lab.pass(10 * SECOND);
    lab.sent.clear();
    assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    assert_eq!(lab.sent[0].1, HOME);
}

/// It was found at no relay, and says over its backup that it is at home again.
#[test]
fn what_waits_for_a_peer_that_was_nowhere_goes_when_it_says_where_it_is() {
    // Side 0 lives where side 1 has its backup.
    let mut lab = Lab::with(|index, network| match index {
        0 => network.relays = vec![BACKUP, HOME],
        _ => network.peers.get_mut(&HOSTS[0]).unwrap().relays = vec![BACKUP, HOME],
    });
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.end(1, HOME, LinkEnd::Silent);
    lab.end(1, BACKUP, LinkEnd::Silent);
    there.try_write(b"overlay").unwrap();
    lab.settle();
    assert!(here.try_read(&mut [0; 16]).is_err(), "it is nowhere");
    // A program writes on meanwhile.
    let peer = lab.membership(0).peer(HOSTS[1]).unwrap();
    lab.engine(0).enqueue(&peer);
    assert_eq!(lab.engine(0).stranded.lock().len(), 1);
    lab.attach(1, HOME);
    lab.attach(1, BACKUP);
    lab.settle();
    // It stood at the link to the backup, of which it was told first.
    lab.settle();
    let mut bytes = [0; 16];
    let count = here.try_read(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"overlay", "without any time passing");
}

/// The credit of a relay that keeps everything comes back to nobody.
#[test]
fn whoever_waits_for_credit_where_the_peer_was_goes_on_where_it_is() {
    let mut lab = Lab::with(|index, network| match index {
        0 => network.relays = vec![BACKUP, HOME],
        _ => network.peers.get_mut(&HOSTS[0]).unwrap().relays = vec![BACKUP, HOME],
    });
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.zombies.push((1, HOME));
    let written = write_all_there_is_room_for(&there);
    lab.settle();
    lab.end(1, HOME, LinkEnd::Silent);
    lab.pass(SECOND / 2);
    let (mut read, mut buffer) = (0, vec![0; 65_536]);
    while let Ok(count @ 1..) = here.try_read(&mut buffer) {
        read += count;
        lab.pass(SECOND / 100);
    }
    assert_eq!(read, written);
}

#[test]
fn who_is_offline_and_nowhere_is_unreachable_at_once() {
    let mut lab = Lab::detached(|index, network| {
        if index == 0 {
            network.peers.get_mut(&HOSTS[1]).unwrap().online = false;
        }
    });
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    let nobody = lab.listen(1);
    let error = refused(&mut lab, address_of(1), &nobody, SECOND);
    assert_eq!(error, ConnectError::Unreachable);
}

#[test]
fn what_waits_for_an_absent_peer_goes_when_it_is_heard_again() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.end(1, HOME, LinkEnd::Drained);
    // Sought in vain several times, so that the next look is seconds away.
    there.try_write(b"overlay").unwrap();
    lab.pass(10 * SECOND);
    lab.attach(1, HOME);
    here.try_write(b"here").unwrap();
    lab.pass(Duration::from_millis(1));
    let mut bytes = [0; 16];
    assert_eq!(here.try_read(&mut bytes).unwrap(), 7);
    assert_eq!(there.try_read(&mut bytes).unwrap(), 4);
}

#[test]
fn a_peer_at_its_backup_costs_no_stall_per_packet() {
    let mut lab = Lab::detached(|_, _| {});
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.sent.clear();
    let start = lab.now;
    for _ in 0..500 {
        assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
        assert_eq!(pass_bytes(&mut lab, &here, &there).unwrap(), b"overlay");
    }
    let in_vain = |(from, relay, _): &&(usize, RelayId, usize)| (*from, *relay) == (0, HOME);
    let in_vain = lab.sent.iter().filter(in_vain).count();
    // An absence is forgotten every 250 ms; then a packet and the acknowledgement after it may go
    // there.
    let looks = (lab.now - start).as_millis() as usize / 250;
    assert!(
        in_vain <= 2 * looks,
        "{in_vain} of 1,000 went to the wrong place"
    );
}

#[test]
fn rings_follow_the_distance_of_the_relay_until_the_peer_has_answered() {
    for (round_trip, bytes) in [
        (Duration::from_millis(10), 2 * 64 * 65_535),
        (Duration::from_millis(50), 2 * 256 * 65_535),
    ] {
        let mut lab = Lab::new();
        let listener = lab.listen(1);
        lab.sides[0].engine.handle_link_round_trip(round_trip);
        let _streams = lab.open(0, &listener);
        let stats = lab.membership(0).stack().stats();
        assert_eq!(stats.ring_bytes, bytes, "{round_trip:?}");
    }
}
