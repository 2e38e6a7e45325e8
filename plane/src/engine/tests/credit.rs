//! Credit and turns: who waits, for how long, and what a link lost.

use super::*;

#[test]
fn without_credit_a_peer_waits_and_with_credit_it_goes_on() {
    let mut lab = Lab::detached(|_, _| {});
    lab.window = 100_000;
    lab.attach(0, HOME);
    lab.attach(1, HOME);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.pass(SECOND);
    lab.gives_credit = false;
    lab.sent.clear();
    let written = write_all_there_is_room_for(&there);
    assert!(written > 3 * 100_000);
    lab.settle();
    let sent: usize = lab
        .sent
        .iter()
        .filter(|(from, _, _)| *from == 0)
        .map(|(_, _, length)| length)
        .sum();
    assert!(
        (100_000..100_000 + BODY_MAX).contains(&sent),
        "the window and the frame that crosses it, not {sent}"
    );
    assert!(lab.engine(0).counters().credit_waits.get() > 0);
    assert_eq!(lab.fill(0, HOME), b"", "it stays parked");

    // The relay announces what it held back; from there on everything arrives.
    lab.gives_credit = true;
    let address = Address {
        vni: VNI.get(),
        flow: 0,
        host: HOSTS[1].get(),
    };
    let released = lab.released(0, HOME);
    let credit = Frame::Credit {
        address,
        released,
        window: 100_000,
    };
    lab.deliver(0, HOME, &credit).unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 65_536];
    for _ in 0..100 {
        while let Ok(count) = here.try_read(&mut buffer) {
            read += count;
        }
        lab.pass(Duration::from_millis(50));
    }
    assert_eq!(read, written);
    assert_eq!(lab.ended, []);
}

#[test]
fn counters_tell_how_long_a_peer_waited_for_its_turn_for_credit_and_for_the_socket() {
    let mut lab = Lab::detached(|_, _| {});
    lab.window = 40_000;
    lab.attach(0, HOME);
    lab.attach(1, HOME);
    let listener = lab.listen(1);
    let (there, _here) = lab.open(0, &listener);
    lab.pass(SECOND);
    let before = lab.engine(0).counters().snapshot(lab.now);
    assert_eq!(before["queue_turns"], 0, "nobody gave a clock");
    assert_eq!(before["credit_window"], 40_000, "known before any wait");

    let begin = lab.now;
    lab.engine(0).measure_by(move || begin);
    write_all_there_is_room_for(&there);
    lab.now += Duration::from_millis(30);
    assert!(lab.fill(0, HOME).len() >= 40_000, "up to the window");
    let counters = lab.engine(0).counters().snapshot(lab.now);
    assert_eq!(counters["queue_delay_max_us"], 30_000);
    assert_eq!(counters["queue_turns"], 1);
    assert_eq!(counters["credit_waits"], before["credit_waits"] + 1);
    assert_eq!(counters["credit_wait_us"], before["credit_wait_us"]);

    lab.now += Duration::from_millis(20);
    let credit = Frame::Credit {
        address: Address {
            vni: VNI.get(),
            flow: 0,
            host: HOSTS[1].get(),
        },
        released: lab.released(0, HOME) + 30_000,
        window: 200_000,
    };
    lab.deliver(0, HOME, &credit).unwrap();
    // Two turns of the pump in which the socket took nothing, and then all of it.
    for _ in 0..3 {
        let link = lab.sides[0].links.get_mut(&HOME).unwrap();
        link.handle_timeout(lab.now).unwrap();
    }
    lab.now += Duration::from_millis(5);
    lab.fill(0, HOME);
    let counters = lab.engine(0).counters().snapshot(lab.now);
    assert_eq!(
        counters["credit_wait_us"],
        before["credit_wait_us"] + 20_000
    );
    assert_eq!(counters["credit_window"], 200_000);
    assert_eq!(counters["link_stalls"], 1);
    assert_eq!(counters["link_stall_us"], 25_000);
}

#[test]
fn a_peer_that_waits_for_credit_moves_on_when_its_link_ends() {
    let mut lab = Lab::detached(|_, _| {});
    lab.window = 100_000;
    for relay in [HOME, BACKUP] {
        lab.attach(0, relay);
        lab.attach(1, relay);
    }
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    lab.gives_credit = false;
    write_all_there_is_room_for(&there);
    lab.settle();
    assert!(lab.engine(0).counters().credit_waits.get() > 0);
    lab.gives_credit = true;
    lab.end(0, HOME, LinkEnd::Silent);
    lab.engine(0).handle_attach_failed(lab.now, HOME);
    lab.sent.clear();
    lab.settle();
    assert!(
        lab.sent
            .iter()
            .any(|(from, relay, _)| (*from, *relay) == (0, BACKUP))
    );
    assert!(here.try_read(&mut [0; 8]).unwrap() > 0);
}

#[test]
fn credit_that_cannot_be_ends_the_link() {
    let mut lab = Lab::new();
    let listener = lab.listen(1);
    let _streams = lab.open(0, &listener);
    let sent = lab.released(0, HOME);
    let credit = |host, released| Frame::Credit {
        address: Address {
            vni: VNI.get(),
            flow: 0,
            host,
        },
        released,
        window: 100_000,
    };
    lab.deliver(0, HOME, &credit(HOSTS[1].get(), sent)).unwrap();
    let more = lab.deliver(0, HOME, &credit(HOSTS[1].get(), sent + 1));
    assert_eq!(more, Err(LinkEnd::FalseCredit));
    let less = lab.deliver(0, HOME, &credit(HOSTS[1].get(), sent - 1));
    assert_eq!(less, Err(LinkEnd::FalseCredit));
    let nobody = lab.deliver(0, HOME, &credit(4_711, 0));
    assert_eq!(nobody, Err(LinkEnd::FalseCredit));
}
