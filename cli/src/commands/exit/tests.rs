use std::path::PathBuf;
use std::time::Duration;

use overlan::program::socket::Refusal;
use overlan_protocol::api::Problem;
use overlan_transport::ConnectError;

use super::*;

fn problem(kind: ProblemKind) -> HttpsError {
    HttpsError::Problem(Problem {
        kind,
        title: "the auth key has expired".to_owned(),
        status: 403,
        detail: "ask for another".to_owned(),
        retry_after_secs: None,
    })
}

fn refusal(kind: RefusalKind) -> CallError {
    CallError::Refused(Refusal {
        kind,
        message: "no".to_owned(),
        next: None,
    })
}

#[test]
fn scripts_can_rely_on_the_numbers() {
    let numbers = [
        (Code::Ok, 0),
        (Code::Other, 1),
        (Code::Usage, 2),
        (Code::NotRunning, 3),
        (Code::NeedsLogin, 4),
        (Code::PendingApproval, 5),
        (Code::Denied, 6),
        (Code::TimedOut, 7),
        (Code::ControllerUnreachable, 8),
        (Code::RelayUnreachable, 9),
    ];
    for (code, number) in numbers {
        assert_eq!(code as u8, number);
    }
}

#[test]
fn each_error_has_its_code() {
    let path = || PathBuf::from("/state");
    let cases: Vec<(Failure, Code)> = vec![
        (CallError::NotRunning(path()).into(), Code::NotRunning),
        (
            CallError::TimedOut(Duration::from_secs(1)).into(),
            Code::TimedOut,
        ),
        (
            refusal(RefusalKind::ControllerUnreachable).into(),
            Code::ControllerUnreachable,
        ),
        (refusal(RefusalKind::Conflict).into(), Code::Other),
        (refusal(RefusalKind::Denied).into(), Code::Denied),
        (refusal(RefusalKind::TimedOut).into(), Code::TimedOut),
        (
            refusal(RefusalKind::RelayUnreachable).into(),
            Code::RelayUnreachable,
        ),
        (StateError::InUse { path: path() }.into(), Code::Other),
        (
            HttpsError::Connect(ConnectError::TimedOut {
                address: "c:1".to_owned(),
                waited: Duration::from_secs(1),
            })
            .into(),
            Code::ControllerUnreachable,
        ),
        (
            HttpsError::Broken("reset".to_owned()).into(),
            Code::ControllerUnreachable,
        ),
        (problem(ProblemKind::KeyExpired).into(), Code::NeedsLogin),
        (problem(ProblemKind::WrongPassword).into(), Code::NeedsLogin),
        (problem(ProblemKind::Forbidden).into(), Code::Denied),
        (problem(ProblemKind::UnknownNetwork).into(), Code::Other),
        (Failure::usage("no"), Code::Usage),
    ];
    for (failure, code) in cases {
        assert_eq!(failure.code(), code, "{failure}");
    }
}

#[test]
fn a_cause_is_told_once() {
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let told = refused.to_string();
    let failure = Failure::from(HttpsError::Connect(ConnectError::Connect {
        address: "c.example:8443".to_owned(),
        source: refused,
    }));
    let text = failure.to_string();
    let expected =
        format!("the controller is not reached: cannot connect to c.example:8443: {told}\n");
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.contains("overlan netcheck"), "{text}");
    assert_eq!(text.matches(&told).count(), 1, "{text}");

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start")]
    struct Outer(#[source] io::Error);
    let failure = Failure::new(Code::Other, Outer(io::Error::other("no memory"))).next("Buy some.");
    assert_eq!(failure.to_string(), "cannot start: no memory\nBuy some.");
}

#[test]
fn a_problem_shows_what_the_controller_says() {
    let failure = Failure::from(problem(ProblemKind::KeyExpired));
    assert_eq!(
        failure.to_string(),
        "the auth key has expired: ask for another"
    );
}
