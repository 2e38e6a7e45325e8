use super::*;
use crate::key::Secret;

#[test]
fn an_unknown_problem_kind_is_still_a_problem() {
    let problem: Problem =
        serde_json::from_str(r#"{"type":"brand-new","title":"t","status":418}"#).unwrap();
    assert_eq!(problem.kind, ProblemKind::Other);
}

#[test]
fn secrets_do_not_show_when_a_request_is_logged() {
    let request = LoginRequest {
        email: "a@b.c".into(),
        password: Secret::new("hunter2hunter2"),
        organisation: None,
    };
    assert!(!format!("{request:?}").contains("hunter2"));
    assert!(
        serde_json::to_string(&request).unwrap().contains("hunter2"),
        "it is sent, though"
    );
}
