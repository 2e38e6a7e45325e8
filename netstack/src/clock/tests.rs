use super::*;

#[test]
fn the_clock_stands_still_between_stall_and_resume() {
    let clock = PathClock::new();
    assert_eq!(
        clock.moment(1_000),
        Moment {
            real: 1_000,
            path: 1_000
        }
    );
    clock.stall(2_000);
    clock.stall(3_000);
    assert_eq!(clock.moment(9_000).path, 2_000);
    assert_eq!(clock.real(5_000), None);
    assert!(clock.resume(10_000));
    assert!(!clock.resume(11_000));
    assert_eq!(clock.moment(11_000).path, 3_000);
    assert_eq!(clock.real(3_000), Some(11_000));
}
