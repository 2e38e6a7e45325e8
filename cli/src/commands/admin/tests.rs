use super::*;

#[tokio::test]
async fn admin_commands_need_a_login() {
    let root = tempfile::tempdir().unwrap();
    let args = ListArgs {
        json: false,
        verbose: false,
        state: StateArgs {
            state_dir: Some(root.path().join("state")),
        },
    };
    let failure = run(AdminCommand::AuthKey(auth_key::AuthKeyCommand::List(args)))
        .await
        .unwrap_err();
    assert_eq!(failure.code(), crate::commands::exit::Code::NeedsLogin);
    assert!(failure.to_string().contains("overlan login"), "{failure}");
}

#[test]
fn ids_are_short_for_people_where_they_stand_last() {
    let row = |cells: [&str; 2]| cells.map(str::to_owned);
    let mut devices = vec![row(["NAME", "ID"]), row(["web", "0123456789abcdef"])];
    shorten_ids(&mut devices);
    assert_eq!(devices[1], ["web", "01234567"]);
    let mut keys = vec![row(["ID", "NOTE"]), row(["3483819da319", "a longer note"])];
    shorten_ids(&mut keys);
    assert_eq!(keys[1], ["3483819da319", "a longer note"]);
}
