//! Backup while the controller serves, and the way back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use overlan_controller::{BackupError, backup, restore, rotate_ticket_key};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{DeviceSummary, ProblemKind, RelayOrders, TicketResponse, path};

use crate::lab::{Lab, WITHIN, network, refused};

#[expect(
    clippy::disallowed_methods,
    reason = "tickets are judged by the real clock here, as they were made by it"
)]
fn unix_now() -> UnixTime {
    std::time::SystemTime::now().into()
}

#[tokio::test]
async fn a_backup_of_a_busy_controller_comes_back_whole() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let join = lab.join.clone();
    let to = lab.dir.path().join("backups");
    fs::create_dir(&to).unwrap();
    // Others write meanwhile.
    let data_dir = lab.data_dir();
    let (made, busy) = tokio::join!(backup(&data_dir, &to), async {
        let mut devices = Vec::new();
        for number in 0..10 {
            devices.push(lab.enrol(&key, &format!("busy-{number}")).await);
        }
        devices
    });
    let made = made.unwrap();
    let mode = fs::metadata(&made.file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(&to).unwrap().count(),
        1,
        "one file, nothing beside it"
    );
    assert!(matches!(
        backup(&lab.data_dir(), &made.file).await,
        Err(BackupError::Exists { .. })
    ));
    let late = lab.enrol(&key, "late").await;
    lab.stop().await;

    let kept = lab.dir.path().join("kept");
    fs::rename(lab.data_dir(), &kept).unwrap();
    let back = restore(&made.file, &lab.data_dir()).await.unwrap();
    assert!((1..=11).contains(&back.devices), "{back:?}");
    lab.run().await;
    assert_eq!(lab.join.ca, join.ca);
    assert!(lab.setup_token.is_none());
    let mut person = lab.person(&owner).await;
    let devices: Vec<DeviceSummary> = person.get(path::DEVICES, WITHIN).await.unwrap();
    assert_eq!(u64::try_from(devices.len()).unwrap(), back.devices);
    web.stream(&lab).await;
    let lines = late
        .connect(&lab)
        .await
        .lines(path::DEVICE_NETMAP, WITHIN)
        .await;
    assert_eq!(refused(lines), ProblemKind::DeviceUnknown);
    // Nobody gets an address that somebody had in the time that is lost, though nobody came to
    // tell.
    let fresh = lab.enrol(&key, "fresh").await;
    let map = fresh.stream(&lab).await.map;
    assert!(network(&map).host.get() > 4_000, "{}", network(&map).host);
    drop(busy);
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_half_done() {
    let mut lab = Lab::start().await;
    lab.set_up().await;
    let file = lab.dir.path().join("one.backup");
    backup(&lab.data_dir(), &file).await.unwrap();
    let into = restore(&file, &lab.data_dir()).await.unwrap_err();
    assert!(
        into.to_string().contains("which is not overwritten"),
        "{into}"
    );
    let empty = lab.dir.path().join("empty");
    assert!(matches!(
        backup(&empty, &lab.dir.path().join("x")).await,
        Err(BackupError::NoDeployment { .. })
    ));
    let whole = fs::read(&file).unwrap();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("half of it", whole[..whole.len() / 2].to_vec()),
        ("garbage", vec![b'x'; 10_000]),
        ("a bare database", {
            lab.stop().await;
            fs::read(lab.data_dir().join("controller.db")).unwrap()
        }),
    ] {
        let bad = lab.dir.path().join("bad.backup");
        fs::write(&bad, bytes).unwrap();
        let target = lab.dir.path().join("target");
        let refused = restore(&bad, &target).await.unwrap_err();
        assert!(
            matches!(refused, BackupError::Unusable { .. }),
            "{what}: {refused}"
        );
        let left: Vec<_> = fs::read_dir(&target).into_iter().flatten().collect();
        assert!(
            left.len() <= 1,
            "{what} leaves no more than the lock: {left:?}"
        );
        // The same directory takes a good one.
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        restore(&file, &target).await.unwrap();
        fs::remove_dir_all(&target).unwrap();
    }
}

#[tokio::test]
async fn a_rotated_ticket_key_cuts_nobody_off() {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    let relay = lab.relay(&owner, "ams-1", 4_430).await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let running = rotate_ticket_key(&lab.data_dir()).unwrap_err();
    assert!(
        running.to_string().contains("admin key rotate ticket"),
        "{running}"
    );
    lab.stop().await;
    rotate_ticket_key(&lab.data_dir()).unwrap();
    lab.run().await;
    let mut connection = relay.connect(&lab).await;
    let orders: RelayOrders = connection
        .post(path::RELAY_HEARTBEAT, &relay.beat(0, false), WITHIN)
        .await
        .unwrap();
    assert_eq!(orders.ticket_keys.len(), 2);
    // Those that live, and those that are made now, are of keys that the relay knows.
    let now: TicketResponse = web
        .connect(&lab)
        .await
        .post(path::DEVICE_TICKET, &serde_json::json!({}), WITHIN)
        .await
        .unwrap();
    for ticket in [&web.enrolled().ticket.ticket, &now.ticket] {
        overlan_protocol::ticket::Ticket::verify(ticket, &orders.ticket_keys, unix_now()).unwrap();
    }
}
