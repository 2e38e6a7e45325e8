use super::*;
use crate::commands::exit::Code;

fn line(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[test]
fn only_our_own_json_flag_counts() {
    assert_eq!(
        asked_form(&line(&["overlan", "status", "--json"])),
        Form::Json
    );
    assert_eq!(asked_form(&line(&["overlan", "status"])), Form::Text);
    let foreign = ["overlan", "exec", "--", "gh", "--json"];
    assert_eq!(asked_form(&line(&foreign)), Form::Text);
}

#[test]
fn a_failure_is_a_document_with_its_number_its_word_and_what_to_do() {
    let failure = Failure::new(Code::NotRunning, "nothing runs").next("start it");
    let printed = document(&failure);
    let expected = json!({
        "schema_version": 1,
        "error": {
            "code": 3,
            "kind": "not-running",
            "message": "nothing runs",
            "hint": "start it",
        },
    });
    assert_eq!(printed, expected);
    let printed = failure_in(&printed.to_string()).unwrap();
    assert_eq!(
        printed,
        ("nothing runs".to_owned(), Some("start it".to_owned()))
    );
    assert_eq!(failure_in("Error: nothing runs"), None);
    let alone = document(&Failure::usage("no"));
    assert_eq!(alone["error"]["hint"], serde_json::Value::Null);
}
