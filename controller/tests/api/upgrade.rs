//! A database of version 0.1.0, as its controller left it: what this one makes of its names and
//! rights.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    ApproveRequest, DeviceSummary, EnrolResponse, JoinRequest, LoginRequest, LoginResponse,
    MembershipSummary, ProblemKind, RouteSummary, TicketResponse, path,
};
use overlan_protocol::key::{IdentitySecret, KEY_LEN, Secret, TunnelKey};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};

use crate::lab::{Device, EMAIL, Lab, PASSWORD, WITHIN, fast, network, peer, refused};

const DUMP: &str = include_str!("fixtures/version-0.1.0.sql");

/// Ids in the dump, with the seeds of the identities, which no other deployment has.
const WEB: (&str, [u8; KEY_LEN]) = (
    "c817c40fab4f32c7cf7c5808000ecacd",
    [
        63, 11, 73, 148, 112, 9, 55, 50, 106, 134, 7, 72, 117, 48, 220, 211, 138, 216, 60, 195,
        175, 80, 238, 195, 25, 167, 130, 102, 242, 187, 61, 231,
    ],
);
const WIKI: (&str, [u8; KEY_LEN]) = (
    "ccdb1755166e9613f319595c04ab48f6",
    [
        250, 78, 139, 202, 140, 17, 169, 113, 190, 35, 154, 67, 24, 204, 30, 14, 200, 190, 100,
        101, 231, 67, 224, 185, 150, 133, 211, 9, 224, 200, 227, 212,
    ],
);
const OUT: (&str, [u8; KEY_LEN]) = (
    "07179c8a04ced69d3dc17b0b05d6517f",
    [
        225, 28, 113, 152, 88, 52, 233, 34, 240, 36, 121, 153, 77, 112, 191, 132, 72, 14, 52, 168,
        196, 200, 213, 187, 104, 3, 149, 227, 63, 196, 242, 61,
    ],
);
/// A second `web` that waits.
const LATE: &str = "3c22e3e5097bf1a6063271a4584aac54";

async fn restore(data: &Path) {
    std::fs::create_dir(data).unwrap();
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(data.join("controller.db"))
        .create_if_missing(true);
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    database.execute(sqlx::raw_sql(DUMP)).await.unwrap();
    database.close().await.unwrap();
}

fn device((id, seed): (&str, [u8; KEY_LEN])) -> Device {
    Device {
        secret: IdentitySecret::from_seed(seed),
        tunnel: TunnelKey([0; KEY_LEN]),
        enrolled: Some(EnrolResponse {
            device: id.parse().unwrap(),
            label: String::new(),
            network: String::new(),
            domain: String::new(),
            ticket: TicketResponse {
                ticket: String::new(),
                expires: UnixTime::EPOCH,
                networks: Vec::new(),
            },
        }),
    }
}

async fn log_in(lab: &Lab) -> LoginResponse {
    let request = LoginRequest {
        email: EMAIL.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: None,
    };
    let mut connection = lab.connect().await;
    connection
        .post(path::LOGIN, &request, WITHIN)
        .await
        .unwrap()
}

/// Each device's names in its networks, and what it waits for.
async fn devices(lab: &Lab, owner: &LoginResponse) -> Vec<String> {
    let mut person = lab.person(owner).await;
    let devices: Vec<DeviceSummary> = person.get(path::DEVICES, WITHIN).await.unwrap();
    let mut answer: Vec<String> = devices
        .into_iter()
        .map(|device| {
            let places = device.networks.into_iter();
            let places = places.map(|place| format!("{}.{}", place.label, place.network));
            let waits = device.waiting.into_iter();
            let waits = waits.map(|network| format!("waits for {network}"));
            places.chain(waits).collect::<Vec<_>>().join(", ")
        })
        .collect();
    answer.sort();
    answer
}

async fn join_itself(
    lab: &Lab,
    device: &Device,
) -> Result<MembershipSummary, overlan_transport::https::HttpsError> {
    let request = JoinRequest {
        network: "acme".to_owned(),
    };
    let mut connection = device.connect(lab).await;
    connection
        .post(path::DEVICE_NETWORKS, &request, WITHIN)
        .await
}

#[tokio::test]
async fn a_database_of_the_first_version_keeps_its_devices_and_gives_each_name_one_meaning() {
    let dir = tempfile::tempdir().unwrap();
    restore(&dir.path().join("data")).await;
    let mut lab = Lab::start_in(dir, fast()).await;
    let owner = log_in(&lab).await;
    let expected = [
        "intranet-1.demo",
        "out.demo",
        "waits for demo",
        "web.demo",
        "wiki-1.demo",
        "wish.demo",
    ];
    assert_eq!(devices(&lab, &owner).await, expected);
    let names = lab
        .texts("SELECT name || ' ' || kind FROM names ORDER BY name")
        .await;
    assert_eq!(
        names,
        [
            "intranet record",
            "intranet-1 device",
            "out device",
            "web device",
            "wiki record",
            "wiki-1 device",
            "wish device"
        ]
    );

    // Devices keep their keys and addresses, and hear of the new names.
    let (web, wiki, out) = (device(WEB), device(WIKI), device(OUT));
    let seen = wiki.stream(&lab).await.map;
    let here = network(&seen);
    assert_eq!((here.host.get(), here.label.as_str()), (2, "wiki-1"));
    assert!(peer(&seen, "intranet-1").is_some() && peer(&seen, "intranet").is_none());
    for record in ["wiki.demo.overlan.lan", "intranet.demo.overlan.lan"] {
        assert!(here.dns.records.contains_key(record), "{record}");
    }
    let (host, gateway) = here.peer_named("web").unwrap();
    assert_eq!(
        (host.get(), gateway.routes.len()),
        (1, 1),
        "an approved route"
    );

    // A wish for a name that a device has is not granted.
    let mut person = lab.person(&owner).await;
    let request = ApproveRequest {
        device: web.id(),
        network: "demo".to_owned(),
        route: "10.1.0.10".parse().unwrap(),
        approved: true,
    };
    let granted = person
        .post::<_, RouteSummary>(path::ROUTES, &request, WITHIN)
        .await;
    assert_eq!(refused(granted), ProblemKind::NameTaken);

    // Rights are what they were: who was taken out does not come back by itself, who has a grant
    // may use it.
    assert_eq!(
        refused(join_itself(&lab, &out).await),
        ProblemKind::Forbidden
    );
    let joined = join_itself(&lab, &web).await.unwrap();
    assert_eq!(
        (joined.label.as_str(), joined.network.as_str()),
        ("web", "acme")
    );
    let approve = format!("{}/{LATE}/approve", path::DEVICES);
    let _: Vec<MembershipSummary> = person
        .post(&approve, &serde_json::json!({}), WITHIN)
        .await
        .unwrap();
    // The address of the second web is none that the older controller may have given out since the
    // dump.
    let hosts = lab
        .texts("SELECT CAST(host AS TEXT) FROM members WHERE label = 'web-1'")
        .await;
    assert!(hosts[0].parse::<u32>().unwrap() > 6, "{hosts:?}");
    let after = devices(&lab, &owner).await;
    assert!(after.contains(&"web-1.demo".to_owned()), "{after:?}");

    lab.restart().await;
    assert_eq!(devices(&lab, &owner).await, after, "once is enough");
}
