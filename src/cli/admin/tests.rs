use super::*;

#[test]
fn a_key_shows_what_became_of_it() {
    let key = AuthKeySummary {
        id: "k1".to_owned(),
        networks: vec!["home".to_owned(), "acme".to_owned()],
        reusable: true,
        approval: false,
        ephemeral: true,
        expires: UnixTime::from_secs(90_000),
        uses: 3,
        revoked: false,
        note: "CI".to_owned(),
    };
    let row = key_row(&key, UnixTime::EPOCH);
    assert_eq!(
        row,
        [
            "k1",
            "home,acme",
            "reusable, ephemeral",
            "in 25 h",
            "3",
            "CI"
        ]
    );
    assert_eq!(key_row(&key, UnixTime::from_secs(90_060))[3], "60 s ago");
    let used = AuthKeySummary {
        reusable: false,
        uses: 1,
        ..key.clone()
    };
    assert_eq!(
        key_row(&used, UnixTime::EPOCH)[3],
        "used",
        "it lets nobody in any more"
    );
    let revoked = AuthKeySummary {
        revoked: true,
        ..key
    };
    assert_eq!(key_row(&revoked, UnixTime::EPOCH)[3], "revoked");
}

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
    let failure = run(AdminCommand::AuthKey(AuthKeyCommand::List(args)))
        .await
        .unwrap_err();
    assert_eq!(failure.code(), crate::cli::exit::Code::NeedsLogin);
    assert!(failure.to_string().contains("overlan login"), "{failure}");
}

#[tokio::test]
async fn an_id_cannot_lead_to_another_path() {
    let root = tempfile::tempdir().unwrap();
    for id in ["", "../networks", "a/b", "a?b", "a b"] {
        let args = RevokeArgs {
            id: id.to_owned(),
            state: StateArgs {
                state_dir: Some(root.path().join("state")),
            },
        };
        let failure = revoke_key(&args).await.unwrap_err();
        assert_eq!(failure.code(), crate::cli::exit::Code::Usage, "{id:?}");
    }
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
