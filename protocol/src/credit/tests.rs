use super::window::FLOOR;
use super::*;
use proptest::prelude::*;

#[test]
fn a_sender_stops_at_the_window_and_goes_on_with_credit() {
    let mut credit = SendCredit::new(100);
    credit.handle_sent(60);
    assert!(credit.may_send());
    credit.handle_sent(60);
    assert!(!credit.may_send(), "120 of 100 are outstanding");
    assert_eq!(credit.handle_credit(60, 100), Ok(()));
    assert!(credit.may_send());
    assert_eq!(credit.handle_credit(60, 40), Ok(()));
    assert!(!credit.may_send(), "the window shrank");
}

#[test]
fn false_announcements_are_noticed() {
    let mut credit = SendCredit::new(100);
    credit.handle_sent(50);
    assert_eq!(credit.handle_credit(51, 100), Err(FalseCredit));
    assert_eq!(credit.handle_credit(50, 100), Ok(()));
    assert_eq!(credit.handle_credit(49, 100), Err(FalseCredit));
}

#[test]
fn a_source_that_ignores_its_credit_is_refused() {
    let mut credit = RelayCredit::new(100);
    assert_eq!(credit.allowance(), 100);
    credit.handle_received(99);
    assert_eq!(credit.allowance(), 1, "the last frame may overshoot");
    credit.handle_received(99);
    assert_eq!(credit.allowance(), 0);
    assert_eq!(credit.held(), 198);
    let announced = credit.handle_released(start(), 99, None, WINDOW_MAX);
    let expected = Announcement {
        released: 99,
        window: 100,
    };
    assert_eq!(announced, Some(expected));
    assert_eq!(credit.allowance(), 1);
}

proptest! {
    /// Whatever the frame sizes, waits and ceilings, and however late announcements arrive: an
    /// honest sender is never refused, the relay holds at most what it allowed and one frame, and
    /// the pair never stalls without end.
    #[test]
    fn honest_pairs_neither_overrun_nor_stall(
        steps in proptest::collection::vec(
            (0u8..3, 1usize..2_000, 0u64..20_000, 0u32..40_000),
            1..400,
        ),
        window in 1u32..10_000,
    ) {
        let (mut sender, mut relay) = (SendCredit::new(window), RelayCredit::new(window));
        let mut held = std::collections::VecDeque::new();
        let mut announced = std::collections::VecDeque::new();
        let mut now = start();
        for (step, size, micros, ceiling) in steps {
            now += Duration::from_micros(micros);
            match step {
                0 if sender.may_send() => {
                    sender.handle_sent(size);
                    prop_assert!(relay.allowance() > 0);
                    relay.handle_received(size);
                    held.push_back(size);
                }
                1 => if let Some(size) = held.pop_front() {
                    let stood = Some(Duration::from_micros(micros));
                    announced.extend(relay.handle_released(now, size, stood, ceiling));
                    announced.extend(relay.handle_timeout(now));
                },
                _ => if let Some(announced) = announced.pop_front() {
                    let Announcement { released, window } = announced;
                    prop_assert_eq!(sender.handle_credit(released, window), Ok(()));
                },
            }
        }
        while let Some(size) = held.pop_front() {
            announced.extend(relay.handle_released(now, size, None, 0));
        }
        for Announcement { released, window } in announced {
            prop_assert_eq!(sender.handle_credit(released, window), Ok(()));
        }
        prop_assert!(sender.may_send(), "everything was released, so something may be sent");
    }
}

#[expect(clippy::disallowed_methods, reason = "where virtual time starts")]
fn start() -> Instant {
    Instant::now()
}

const FIRST: u32 = 512 * 1024;

/// Runs a pair whose source always uses all credit, in round trips of `rtt`, while every byte
/// stands `stood` at the relay; `carry` bounds what the path takes per round trip. Returns the
/// window after each.
fn rounds(
    credit: &mut RelayCredit,
    now: &mut Instant,
    count: usize,
    stood: u64,
    carry: u64,
) -> Vec<u32> {
    let mut windows = Vec::new();
    for _ in 0..count {
        let bytes = credit.allowance().min(carry) as usize;
        credit.handle_received(bytes);
        *now += Duration::from_millis(100);
        let stood = Some(Duration::from_millis(stood));
        let _ = credit.handle_released(*now, bytes, stood, WINDOW_MAX);
        windows.push(credit.window());
    }
    windows
}

#[test]
fn a_window_doubles_while_that_brings_more_and_nothing_stands() {
    let (mut credit, mut now) = (RelayCredit::new(FIRST), start());
    let windows = rounds(&mut credit, &mut now, 16, 0, u64::MAX);
    assert_eq!(windows.last(), Some(&WINDOW_MAX), "{windows:?}");
    assert!(windows.is_sorted());
}

#[test]
fn a_window_that_brings_nothing_does_not_grow_on() {
    let (mut credit, mut now) = (RelayCredit::new(FIRST), start());
    let windows = rounds(&mut credit, &mut now, 40, 0, 700_000);
    assert!(windows.iter().all(|it| *it <= 4 * FIRST), "{windows:?}");
}

#[test]
fn what_stands_is_taken_out_of_the_window_down_to_the_floor() {
    let (mut credit, mut now) = (RelayCredit::new(FIRST), start());
    let windows = rounds(&mut credit, &mut now, 60, 400, u64::MAX);
    assert!(windows.is_sorted_by(|a, b| a >= b), "{windows:?}");
    assert_eq!(windows.last(), Some(&FLOOR));
    let windows = rounds(&mut credit, &mut now, 40, 0, u64::MAX);
    assert!(*windows.last().unwrap() > FIRST, "{windows:?}");
}

#[test]
fn a_pair_that_rested_starts_anew_and_what_it_sent_before_it_heard_is_admitted() {
    let (mut credit, mut now) = (RelayCredit::new(FIRST), start());
    rounds(&mut credit, &mut now, 8, 0, u64::MAX);
    let before = credit.allowance();
    assert!(before > u64::from(FIRST));
    assert_eq!(credit.handle_timeout(now + IDLE / 2), None);
    let announced = credit.handle_timeout(now + IDLE).unwrap();
    assert_eq!(announced.window, FIRST);
    assert_eq!(credit.allowance(), before);
    assert_eq!(
        credit.handle_timeout(now + 2 * IDLE),
        None,
        "announced once"
    );
}
