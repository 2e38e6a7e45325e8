//! Kinds of absence against what happens, in virtual time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The session with the controller is open, and relays have the peer.
const SEEN: Word = Word {
    is_current: true,
    is_nowhere: false,
};
/// Nothing but what lies on disk.
const ALONE: Word = Word {
    is_current: false,
    is_nowhere: false,
};

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn nowhere(word: Word) -> Word {
    Word {
        is_nowhere: true,
        ..word
    }
}

/// Goes from deadline to deadline until connections end or `until`, answering each question if
/// `answers`. When, and why.
fn run(
    standing: &mut Standing,
    word: Word,
    until: Instant,
    answers: bool,
) -> Option<(Instant, Absence)> {
    let mut questions = 0;
    while let Some(due) = standing.poll_timeout(word.is_current) {
        if due > until {
            break;
        }
        match standing.handle_timeout(due, word, true) {
            Action::Rest => {}
            Action::Ask if answers => standing.handle_heard(due + Duration::from_millis(50)),
            Action::Ask => questions += 1,
            Action::End(absence) => {
                assert!(questions > 0, "nobody is given up unasked");
                return Some((due, absence));
            }
        }
        assert!(questions < 1_000);
    }
    None
}

#[test]
fn what_is_known_decides_presence() {
    let t0 = start();
    // By the controller's word, whether something was heard before or after it, and whether relays
    // have it.
    for (word, reported, heard, expected) in [
        (ALONE, None, false, Presence::Unknown),
        (nowhere(ALONE), None, false, Presence::Unknown),
        (ALONE, None, true, Presence::Online),
        (nowhere(ALONE), None, true, Presence::Unknown),
        (SEEN, Some(true), false, Presence::Online),
        (nowhere(SEEN), Some(true), false, Presence::Unknown),
        (SEEN, Some(false), false, Presence::Offline),
        (SEEN, Some(false), true, Presence::Online),
        (nowhere(SEEN), Some(false), false, Presence::Offline),
        (nowhere(SEEN), Some(false), true, Presence::Unknown),
    ] {
        let mut standing = Standing::new(t0, PATIENCE);
        if let Some(online) = reported {
            standing.handle_reported(t0, online);
        }
        if heard {
            standing.handle_heard(t0 + SECOND);
        }
        let now = t0 + 2 * SECOND;
        assert_eq!(
            standing.presence(now, word),
            expected,
            "{word:?} {reported:?} {heard}"
        );
        // What was heard has an age.
        let later = now + HEARD_COUNTS;
        assert_ne!(
            (standing.presence(later, ALONE), heard),
            (Presence::Online, true),
            "{word:?} {reported:?}"
        );
    }
}

#[test]
fn the_word_of_a_session_that_ended_is_not_believed() {
    let t0 = start();
    let mut standing = Standing::new(t0, PATIENCE);
    standing.handle_reported(t0, false);
    assert_eq!(standing.presence(t0, SEEN), Presence::Offline);
    assert_eq!(standing.presence(t0, ALONE), Presence::Unknown);
    standing.handle_reported(t0, true);
    assert_eq!(standing.presence(t0, SEEN), Presence::Online);
    assert_eq!(standing.presence(t0, ALONE), Presence::Unknown);
}

#[test]
fn who_left_is_offline_until_it_comes_back_or_the_controller_has_the_last_word() {
    let t0 = start();
    let left = || {
        let mut standing = Standing::new(t0, PATIENCE);
        standing.handle_reported(t0, true);
        standing.handle_heard(t0);
        assert_eq!(standing.handle_left(t0).ends(), Ends::All);
        assert_eq!(standing.presence(t0, SEEN), Presence::Offline);
        standing
    };
    let mut reported = left();
    assert!(!reported.handle_reported(t0, false));
    assert!(reported.handle_reported(t0 + SECOND, true), "it came");
    assert_eq!(reported.presence(t0 + SECOND, SEEN), Presence::Online);

    let mut heard = left();
    // What was under way when it left.
    heard.handle_heard(t0 + SECOND);
    assert_eq!(heard.presence(t0 + SECOND, SEEN), Presence::Offline);
    assert_eq!(heard.handle_restarted().ends(), Ends::Open);
    assert_eq!(heard.presence(t0 + SECOND, SEEN), Presence::Online);

    let old = left();
    let later = t0 + LEFT_COUNTS;
    assert_eq!(old.presence(later, SEEN), Presence::Online);
    assert_eq!(old.presence(later + HEARD_COUNTS, ALONE), Presence::Unknown);
}

#[test]
fn only_who_was_never_there_is_given_up_by_what_others_say() {
    let t0 = start();
    for (seen, word, expected) in [
        (false, nowhere(SEEN), Some(Absence::NeverThere)),
        (false, SEEN, None),
        (false, nowhere(ALONE), None),
        (true, nowhere(SEEN), None),
    ] {
        let mut standing = Standing::new(t0, PATIENCE);
        if seen {
            standing.handle_reported(t0, true);
        }
        standing.handle_reported(t0, false);
        assert_eq!(standing.absence(word), expected, "{seen} {word:?}");
    }
}

#[test]
fn a_silent_peer_has_the_patience_of_tcp_and_is_asked_before_the_end() {
    let t0 = start();
    let mut standing = Standing::new(t0, PATIENCE);
    standing.handle_heard(t0);
    standing.handle_sent(t0 + SECOND);
    standing.handle_sent(t0 + MINUTE);
    let ended = run(&mut standing, ALONE, t0 + 60 * MINUTE, false);
    let end = t0 + SECOND + PATIENCE + ANSWER_WITHIN;
    assert_eq!(ended, Some((end, Absence::Silent)));
}

#[test]
fn who_answers_is_never_given_up() {
    let t0 = start();
    let mut standing = Standing::new(t0, PATIENCE);
    standing.handle_sent(t0);
    let ended = run(&mut standing, ALONE, t0 + 600 * MINUTE, true);
    assert_eq!(ended, None);
}

#[test]
fn whoever_only_waits_learns_of_a_death_by_the_controller_or_without_it() {
    for (reported, absence) in [(true, Absence::Offline), (false, Absence::Silent)] {
        let t0 = start();
        let mut standing = Standing::new(t0, PATIENCE);
        standing.handle_sent(t0);
        standing.handle_heard(t0 + SECOND);
        let word = match reported {
            true => {
                standing.handle_reported(t0 + 6 * SECOND, false);
                SEEN
            }
            false => ALONE,
        };
        let (at, why) = run(&mut standing, word, t0 + 60 * MINUTE, false).unwrap();
        assert_eq!(why, absence);
        assert!(at <= t0 + PATIENCE + 2 * MINUTE, "{:?}", at - t0);
    }
}

#[test]
fn a_sleep_of_either_side_shorter_than_the_patience_costs_nothing() {
    let t0 = start();
    let mut standing = Standing::new(t0, PATIENCE);
    standing.handle_reported(t0, true);
    standing.handle_sent(t0);
    standing.handle_reported(t0 + 50 * SECOND, false);
    // The peer sleeps.
    assert_eq!(run(&mut standing, SEEN, t0 + 10 * MINUTE, false), None);
    standing.handle_heard(t0 + 10 * MINUTE);
    standing.handle_reported(t0 + 10 * MINUTE, true);
    assert_eq!(run(&mut standing, SEEN, t0 + 60 * MINUTE, true), None);
}

#[test]
fn whoever_slept_longer_than_the_patience_asks_before_it_gives_up() {
    let t0 = start();
    let mut standing = Standing::new(t0, PATIENCE);
    standing.handle_sent(t0);
    // Nothing was done for an hour, and then for another, in the middle of the last question.
    let awake = t0 + 60 * MINUTE;
    assert_eq!(standing.handle_timeout(awake, ALONE, true), Action::Ask);
    let again = awake + 60 * MINUTE;
    assert_eq!(standing.handle_timeout(again, ALONE, true), Action::Ask);
    standing.handle_heard(again + SECOND);
    let due = standing.poll_timeout(false).unwrap();
    assert_eq!(standing.handle_timeout(due, ALONE, true), Action::Ask);
    assert!(due >= again + MINUTE);
}

#[test]
fn an_old_word_ends_nothing_while_the_controller_is_away() {
    let t0 = start();
    let mut standing = Standing::new(t0, PATIENCE);
    standing.handle_sent(t0);
    standing.handle_heard(t0);
    standing.handle_reported(t0 + SECOND, false);
    // It answers; only the controller does not see it, and went away.
    assert_eq!(run(&mut standing, ALONE, t0 + 60 * MINUTE, true), None);
}

#[test]
fn a_peer_without_connections_has_no_timer() {
    let t0 = start();
    let mut standing = Standing::new(t0, PATIENCE);
    assert_eq!(standing.poll_timeout(true), None);
    assert!(standing.handle_sent(t0));
    assert!(!standing.handle_sent(t0));
    let due = standing.poll_timeout(true).unwrap();
    assert_eq!(standing.handle_timeout(due, SEEN, false), Action::Rest);
    assert_eq!(standing.poll_timeout(true), None);
    assert!(standing.handle_sent(due), "the next one is watched again");
}
