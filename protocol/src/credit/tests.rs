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
    assert_eq!(credit.handle_released(99), Some(99));
    assert_eq!(credit.allowance(), 1);
}

proptest! {
    /// Whatever the frame sizes and however late announcements arrive: an honest sender is never refused, the relay holds
    /// at most one window and one frame, and the pair never stalls for ever.
    #[test]
    fn honest_pairs_neither_overrun_nor_stall(
        steps in proptest::collection::vec((0u8..3, 1usize..2_000), 1..400),
        window in 1u32..10_000,
    ) {
        let (mut sender, mut relay) = (SendCredit::new(window), RelayCredit::new(window));
        let mut held = std::collections::VecDeque::new();
        let mut announced = std::collections::VecDeque::new();
        for (step, size) in steps {
            match step {
                0 if sender.may_send() => {
                    sender.handle_sent(size);
                    prop_assert!(relay.allowance() > 0);
                    relay.handle_received(size);
                    held.push_back(size);
                    prop_assert!(relay.held() < u64::from(window) + 2_000);
                }
                1 => if let Some(size) = held.pop_front() {
                    announced.extend(relay.handle_released(size));
                },
                _ => if let Some(total) = announced.pop_front() {
                    prop_assert_eq!(sender.handle_credit(total, window), Ok(()));
                },
            }
        }
        while let Some(size) = held.pop_front() {
            announced.extend(relay.handle_released(size));
        }
        for total in announced {
            prop_assert_eq!(sender.handle_credit(total, window), Ok(()));
        }
        prop_assert!(sender.may_send(), "everything was released, so something may be sent");
    }
}
