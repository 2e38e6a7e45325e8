use overlan_protocol::api::path;
use overlan_protocol::netmap::MapEvent;
use overlan_protocol::policy::Protocol;

use crate::lab::{Lab, WITHIN, network, peer};

#[tokio::test]
async fn a_peer_joins_comes_goes_and_is_removed() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    assert_eq!(stream.map.device, web.id());
    assert_eq!(stream.map.domain, "pertino.net");
    assert_eq!(network(&stream.map).label, "web");
    assert!(network(&stream.map).peers.is_empty());
    assert!(
        network(&stream.map)
            .filter
            .allows_inbound(2, Protocol::Tcp, 80)
    );

    let db = lab.enrol(&key, "db").await;
    stream
        .until("db is known", |map| peer(map, "db").is_some())
        .await;
    let known = peer(&stream.map, "db").unwrap();
    assert_eq!(known.device, db.id());
    assert_eq!(known.identity, db.secret.public());
    assert_eq!(known.tunnel, db.tunnel);
    assert!(!known.online);

    let db_stream = db.stream(&lab).await;
    assert!(peer(&db_stream.map, "web").is_some());
    stream.until_online("db", true).await;
    drop(db_stream);
    stream.until_online("db", false).await;

    let mut db_stream = db.stream(&lab).await;
    let mut connection = db.connect(&lab).await;
    connection.delete(path::DEVICE, WITHIN).await.unwrap();
    stream
        .until("db is gone", |map| peer(map, "db").is_none())
        .await;
    while let Some(event) = db_stream.next().await {
        if event == MapEvent::Removed {
            assert_eq!(db_stream.next().await, None, "the stream ends");
            return;
        }
    }
    panic!("the removed device was not told");
}
