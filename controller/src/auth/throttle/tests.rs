use super::*;

const OWNER: &str = "owner@example.org";
const DAY: u64 = 24 * 3_600;

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ip(number: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + number).into())
}

fn attempt(lane: Lane) -> Attempt<'static> {
    Attempt {
        account: OWNER,
        exists: true,
        lane,
    }
}

#[test]
fn five_failures_are_free_then_the_delay_doubles() {
    let mut now = start();
    let mut throttle = Throttle::default();
    let mine = attempt(Lane::Known(ip(1)));
    for _ in 0..5 {
        assert_eq!(throttle.begin(now, &mine), Ok(()));
    }
    for wait in [2, 4, 8] {
        assert_eq!(throttle.begin(now, &mine), Err(secs(wait)));
        now += secs(wait);
        assert_eq!(throttle.begin(now, &mine), Ok(()));
    }
    let another = Attempt {
        account: "b",
        ..mine
    };
    assert_eq!(throttle.begin(now, &another), Ok(()));
}

#[test]
fn the_delay_has_an_end_and_success_clears_it() {
    let mut now = start();
    let mut throttle = Throttle::default();
    let mine = attempt(Lane::Stranger(ip(1)));
    for _ in 0..40 {
        if let Err(wait) = throttle.begin(now, &mine) {
            assert!(wait <= DELAY_MAX);
            now += wait;
        }
    }
    throttle.succeed(&mine);
    assert_eq!(throttle.begin(now, &mine), Ok(()));
    assert_eq!(throttle.begin(now, &mine), Ok(()));
}

#[test]
fn a_stranger_who_tries_every_second_keeps_nobody_out() {
    let start = start();
    let mut throttle = Throttle::default();
    let stranger = attempt(Lane::Stranger(ip(66)));
    let mut guesses = 0;
    for second in 0..2 * DAY {
        let now = start + secs(second);
        guesses += u32::from(throttle.begin(now, &stranger).is_ok());
        // The owner comes now and then, by every way, also from where it never was.
        if second % 601 == 0 {
            let new_place = Lane::Stranger(ip(1_000 + u32::try_from(second).unwrap()));
            for lane in [
                Lane::Known(ip(1)),
                Lane::Device(DeviceId([1; 16])),
                Lane::Host([127, 0, 0, 1].into()),
                new_place,
            ] {
                let owner = attempt(lane);
                assert_eq!(
                    throttle.begin(now, &owner),
                    Ok(()),
                    "{lane:?} at {second} s"
                );
                throttle.succeed(&owner);
            }
        }
    }
    assert!((150..=220).contains(&guesses), "{guesses} in two days");
}

#[test]
fn a_hundred_a_second_from_many_sources_guess_a_thousand_a_day_and_keep_no_known_one_out() {
    let start = start();
    let mut throttle = Throttle::default();
    let mut guesses = 0;
    let mut source = 0;
    for second in 0..DAY {
        let now = start + secs(second);
        // For some hours; then one a second, to the end of the day.
        for _ in 0..if second < 2 * 3_600 { 100 } else { 1 } {
            source = (source + 7) % 5_000;
            let stranger = attempt(Lane::Stranger(ip(source)));
            guesses += u32::from(throttle.begin(now, &stranger).is_ok());
        }
        if second % 601 == 0 {
            for lane in [
                // Strangers share the owner's own address.
                Lane::Known(ip(7)),
                Lane::Device(DeviceId([1; 16])),
                Lane::Host([127, 0, 0, 1].into()),
            ] {
                let owner = attempt(lane);
                assert_eq!(
                    throttle.begin(now, &owner),
                    Ok(()),
                    "{lane:?} at {second} s"
                );
                throttle.succeed(&owner);
            }
        }
    }
    assert!((900..=1_000).contains(&guesses), "{guesses} in a day");
    let kept: usize = throttle.accounts.values().map(|it| it.lanes.len()).sum();
    assert!(kept <= 1_001, "{kept} lanes are remembered");
}

#[test]
fn made_up_accounts_evict_none_that_exists() {
    let start = start();
    let mut throttle = Throttle::default();
    let guesses = |throttle: &mut Throttle, now| {
        let stranger = attempt(Lane::Stranger(ip(1)));
        (0..20)
            .filter(|_| throttle.begin(now, &stranger).is_ok())
            .count()
    };
    assert_eq!(guesses(&mut throttle, start), 5);
    // All of them later, so that forgetting by age alone would begin with the owner's.
    let soon = start + Duration::from_millis(500);
    for number in 0..u32::try_from(MADE_UP_MAX + 200).unwrap() {
        let account = format!("{number}@example.org");
        let made_up = Attempt {
            account: &account,
            exists: false,
            lane: Lane::Stranger(ip(1_000 + number % 5_000)),
        };
        throttle.begin(soon, &made_up).unwrap();
    }
    assert_eq!(throttle.made_up.len(), MADE_UP_MAX);
    assert!(throttle.sources.len() <= SOURCES_MAX);
    let later = start + secs(1);
    assert_eq!(guesses(&mut throttle, later), 0, "its count is still there");
}

#[test]
fn an_account_that_does_not_exist_is_delayed_alike() {
    let now = start();
    let mut throttle = Throttle::default();
    let lane = Lane::Stranger(ip(1));
    for _ in 0..8 {
        let made_up = Attempt {
            account: "nobody@example.org",
            exists: false,
            lane,
        };
        let same = throttle.begin(now, &attempt(lane));
        assert_eq!(throttle.begin(now, &made_up), same);
    }
}

#[test]
fn one_source_has_a_rate_whatever_it_names() {
    let now = start();
    let mut throttle = Throttle::default();
    let passed = (0..500).filter(|number| {
        let account = format!("{number}@example.org");
        let spray = Attempt {
            account: &account,
            exists: false,
            lane: Lane::Stranger(ip(1)),
        };
        throttle.begin(now, &spray).is_ok()
    });
    assert_eq!(passed.count(), 30);
    assert_eq!(throttle.begin(now, &attempt(Lane::Known(ip(1)))), Ok(()));
}

#[test]
fn what_was_never_tried_is_no_failure() {
    let now = start();
    let mut throttle = Throttle::default();
    let stranger = attempt(Lane::Stranger(ip(1)));
    for _ in 0..25 {
        assert_eq!(throttle.begin(now, &stranger), Ok(()));
        throttle.withdraw(&stranger);
    }
    for _ in 0..5 {
        assert_eq!(throttle.begin(now, &stranger), Ok(()));
    }
    assert!(throttle.begin(now, &stranger).is_err());
}
