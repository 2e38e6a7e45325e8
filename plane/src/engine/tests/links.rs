//! Links that end: the relay ended them, broke the protocol or fell silent, or nothing needs them.

use super::*;

#[test]
fn the_relay_may_end_a_link_and_says_why() {
    let mut lab = Lab::new();
    let reject = Reject::new(RejectCode::Superseded, "attached elsewhere");
    let end = lab.deliver(0, HOME, &Frame::Reject(&reject.encode()));
    assert_eq!(end, Err(LinkEnd::Rejected(reject)));
    let end = lab.deliver(0, HOME, &Frame::Drain { within_ms: 5_000 });
    assert_eq!(end, Ok(()), "another one is attached to first");
    lab.pass(7 * SECOND);
    let ended = (0, HOME, LinkEnd::Drained);
    assert!(lab.ended.contains(&ended), "{:?}", lab.ended);
}

#[test]
fn a_relay_that_breaks_the_protocol_is_left() {
    let mut lab = Lab::new();
    let mut too_long = [frame::kind::DATA, 0xff, 0xff, 0xff];
    let end = lab.deliver_bytes(0, HOME, &mut too_long);
    assert!(matches!(end, Err(LinkEnd::Protocol(_))), "{end:?}");
    let mut too_short = [frame::kind::CREDIT, 0, 0, 1, 0];
    let end = lab.deliver_bytes(0, HOME, &mut too_short);
    assert!(matches!(end, Err(LinkEnd::Protocol(_))), "{end:?}");
    let end = lab.deliver(0, HOME, &Frame::Reject(b"?"));
    assert!(matches!(end, Err(LinkEnd::Protocol(_))), "{end:?}");
}

#[test]
fn a_frame_in_pieces_is_taken_when_it_is_whole() {
    let mut lab = Lab::new();
    let mut bytes = Vec::new();
    Frame::Ping { token: 7 }.encode(&mut bytes);
    Frame::Unknown { kind: 0x7f }.encode(&mut bytes);
    let now = lab.now;
    let whole = bytes.len();
    let link = lab.sides[0].links.get_mut(&HOME).unwrap();
    for length in 0..12 {
        assert_eq!(link.handle_bytes(now, &mut bytes[..length]).unwrap(), 0);
    }
    assert_eq!(link.handle_bytes(now, &mut bytes).unwrap(), whole);
    let mut pong = Vec::new();
    Frame::Pong { token: 7 }.encode(&mut pong);
    assert_eq!(lab.fill(0, HOME), pong, "one answer to one question");
    assert_eq!(lab.fill(0, HOME), b"");
}

#[test]
fn a_link_that_nobody_needs_is_closed_after_a_minute_and_the_home_is_kept() {
    let mut lab = Lab::new();
    lab.attach(0, BACKUP);
    lab.pass(59 * SECOND);
    assert_eq!(lab.ended, []);
    lab.pass(2 * SECOND);
    assert_eq!(lab.ended, [(0, BACKUP, LinkEnd::Idle)]);
    lab.pass(600 * SECOND);
    assert_eq!(lab.ended.len(), 1, "the home is answered and stays");
}

#[test]
fn a_backup_that_carries_traffic_is_not_idle() {
    let mut lab = Lab::detached(|_, _| {});
    lab.attach(0, HOME);
    lab.attach(0, BACKUP);
    lab.attach(1, BACKUP);
    let listener = lab.listen(1);
    let (there, here) = lab.open(0, &listener);
    for _ in 0..5 {
        lab.pass(45 * SECOND);
        assert_eq!(pass_bytes(&mut lab, &there, &here).unwrap(), b"overlay");
    }
    assert_eq!(lab.ended, []);
}

#[test]
fn a_relay_that_does_not_answer_is_left() {
    let mut lab = Lab::new();
    let asked = {
        let link = lab.sides[0].links.get_mut(&HOME).unwrap();
        let at = link.poll_timeout().unwrap();
        link.handle_timeout(at).unwrap();
        at
    };
    let ping = lab.fill(0, HOME);
    let (frame, _) = frame::decode(&ping, BODY_MAX).unwrap().unwrap();
    assert!(matches!(frame, Frame::Ping { .. }), "{frame:?}");
    let link = lab.sides[0].links.get_mut(&HOME).unwrap();
    let at = link.poll_timeout().unwrap();
    assert!(at > asked && at < asked + 5 * SECOND);
    assert_eq!(link.handle_timeout(at), Err(LinkEnd::Silent));
}
