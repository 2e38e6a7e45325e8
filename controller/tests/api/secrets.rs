use std::os::unix::fs::PermissionsExt;

use overlan_controller::{Config, Controller, StartError};
use overlan_protocol::api::{DeviceSummary, LoginRequest, LoginResponse, path};
use overlan_protocol::key::Secret;

use crate::lab::{EMAIL, Lab, PASSWORD, WITHIN, peer};

#[tokio::test]
async fn a_restart_keeps_data_and_join_string() {
    let mut lab = Lab::start().await;
    let first_token = lab.setup_token.clone().unwrap();
    lab.restart().await;
    let second_token = lab.setup_token.clone().unwrap();
    assert_ne!(
        first_token, second_token,
        "until setup each start has another token"
    );
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let relay = lab.relay(&owner, "ams-1", 443).await;
    let before = web.stream(&lab).await;
    let join = lab.join.clone();
    let version = before.map.version;
    drop(before);

    lab.restart().await;
    assert_eq!(lab.join, join);
    assert!(lab.setup_token.is_none());
    let db = lab.enrol(&key, "db").await;
    let mut stream = web.stream(&lab).await;
    assert!(stream.map.version > version);
    stream.until("db", |map| peer(map, "db").is_some()).await;
    assert!(stream.map.relays.contains_key(&relay.id));
    let mut person = lab.person(&owner).await;
    let devices: Vec<DeviceSummary> = person.get(path::DEVICES, WITHIN).await.unwrap();
    let ids: Vec<_> = devices.iter().map(|device| device.id).collect();
    assert_eq!(ids, [db.id(), web.id()]);
    assert_eq!(devices[0].relay.as_deref(), Some("ams-1"));
}

#[tokio::test]
async fn the_data_directory_tells_nobody_a_secret() {
    let mut lab = Lab::start().await;
    let setup_token = lab.setup_token.clone().unwrap();
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let relay_token = lab.relay_token(&owner, "ams-1").await;
    let device = lab.enrol(&key, "web").await;
    let login = LoginRequest {
        email: EMAIL.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: None,
    };
    let mut connection = lab.connect().await;
    let session: LoginResponse = connection.post(path::LOGIN, &login, WITHIN).await.unwrap();
    let secrets = [
        setup_token,
        owner.session.clone(),
        session.session,
        key,
        relay_token,
        Secret::new(PASSWORD),
    ];
    let dump = |lab: &Lab| {
        let mut bytes = Vec::new();
        for file in std::fs::read_dir(lab.data_dir()).unwrap() {
            bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        bytes
    };
    for bytes in [dump(&lab), {
        lab.stop().await;
        dump(&lab)
    }] {
        let contains = |text: &str| {
            let text = text.as_bytes();
            bytes.windows(text.len()).any(|window| window == text)
        };
        assert!(contains(EMAIL), "the search finds what is there");
        assert!(contains(&device.id().to_string()));
        for secret in &secrets {
            let text = secret.reveal();
            // Its end is random, or the password's.
            let inner = &text[text.len() - 20..];
            assert!(!contains(text) && !contains(inner), "{}", &text[..4]);
        }
    }
}

#[tokio::test]
async fn files_are_for_their_owner_only_and_debug_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = Config::new(([127, 0, 0, 1], 0).into(), data.clone());
    let controller = Controller::bind(config).await.unwrap();
    let mode = |path: &std::path::Path| {
        let metadata = std::fs::metadata(path).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&data), 0o700);
    for file in std::fs::read_dir(&data).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let debug = format!("{controller:?}");
    let token = controller.setup_token().unwrap();
    assert!(!debug.contains(token.reveal()));
    let ticket_key: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data.join("ticket-key.json")).unwrap()).unwrap();
    assert!(!debug.contains(ticket_key["seed"].as_str().unwrap()));
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let listen = ([127, 0, 0, 1], 0).into();
    let first = Controller::bind(Config::new(listen, dir.path().join("one")))
        .await
        .unwrap();
    let same = Config::new(listen, dir.path().join("one"));
    let error = Controller::bind(same).await.unwrap_err();
    assert!(matches!(error, StartError::DataDirInUse { .. }), "{error}");

    let taken = Config::new(first.local_addr(), dir.path().join("two"));
    let error = Controller::bind(taken).await.unwrap_err();
    assert!(matches!(error, StartError::PortInUse { .. }), "{error}");

    std::fs::write(dir.path().join("file"), "").unwrap();
    let no_dir = Config::new(listen, dir.path().join("file"));
    let error = Controller::bind(no_dir).await.unwrap_err();
    assert!(matches!(error, StartError::DataDirUnfit { .. }), "{error}");

    let data = dir.path().join("three");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(data.join("controller.db"), vec![7; 5_000]).unwrap();
    let error = Controller::bind(Config::new(listen, data))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Database { .. }), "{error}");

    let mut domain = Config::new(listen, dir.path().join("four"));
    domain.domain = "Not A Domain".to_owned();
    let error = Controller::bind(domain).await.unwrap_err();
    assert!(matches!(error, StartError::Name { .. }), "{error}");
}
