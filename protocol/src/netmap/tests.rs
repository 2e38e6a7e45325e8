use super::*;

fn network() -> Network {
    Network {
        routes: Vec::new(),
        name: "demo".into(),
        vni: Vni::new(0x1000).unwrap(),
        host: HostIndex::MIN,
        label: "laptop".into(),
        relays: vec![RelayId([1; 16])],
        filter: Filter::starter(),
        dns: Dns::default(),
        peers: BTreeMap::new(),
    }
}

fn peer(label: &str) -> Peer {
    Peer {
        owner: Default::default(),
        routes: Vec::new(),
        device: DeviceId([4; 16]),
        label: label.into(),
        identity: IdentityKey([5; 32]),
        tunnel: TunnelKey([6; 32]),
        tunnel_signature: String::new(),
        relays: vec![],
        online: false,
    }
}

const HOST: HostIndex = HostIndex::new(2).unwrap();
const ID: NetworkId = NetworkId([2; 16]);

fn map() -> Netmap {
    Netmap {
        version: 5,
        lineage: None,
        domain: "overlan.lan".into(),
        device: DeviceId([3; 16]),
        networks: BTreeMap::from([(ID, network())]),
        relays: BTreeMap::new(),
    }
}

#[test]
fn deltas_apply_in_order_and_a_gap_changes_nothing() {
    let mut map = map();
    let joined = Change::Peer {
        network: ID,
        host: HOST,
        peer: Box::new(peer("web")),
    };
    let online = Change::PeerOnline {
        network: ID,
        host: HOST,
        online: true,
    };
    assert_eq!(
        map.apply(&Delta {
            from: 5,
            to: 7,
            lineage: None,
            confirm: false,
            changes: vec![joined, online]
        }),
        Ok(())
    );
    assert_eq!(map.version, 7);
    assert_eq!(
        map.network_named("demo")
            .unwrap()
            .1
            .peer_named("web")
            .map(|(host, peer)| (host, peer.online)),
        Some((HOST, true))
    );

    let before = map.clone();
    let gone = Change::PeerGone {
        network: ID,
        host: HOST,
    };
    assert_eq!(
        map.apply(&Delta {
            from: 8,
            to: 9,
            lineage: None,
            confirm: false,
            changes: vec![gone.clone()]
        }),
        Err(Gap { have: 7, from: 8 })
    );
    assert_eq!(map, before);
    assert_eq!(
        map.apply(&Delta {
            from: 7,
            to: 8,
            lineage: None,
            confirm: false,
            changes: vec![gone]
        }),
        Ok(())
    );
    assert!(map.networks[&ID].peers.is_empty());
}

#[test]
fn a_change_about_an_unknown_network_is_skipped() {
    let mut map = map();
    let other = NetworkId([9; 16]);
    let change = Change::Peer {
        network: other,
        host: HOST,
        peer: Box::new(peer("web")),
    };
    assert_eq!(
        map.apply(&Delta {
            from: 5,
            to: 6,
            lineage: None,
            confirm: false,
            changes: vec![change]
        }),
        Ok(())
    );
    assert_eq!(map.networks.len(), 1);
}

#[test]
fn events_read_back_from_their_json() {
    let changes = vec![
        Change::Network {
            id: ID,
            network: Box::new(network()),
        },
        Change::NetworkGone { id: ID },
        Change::Relays {
            network: ID,
            relays: vec![RelayId([1; 16])],
        },
        Change::Filter {
            network: ID,
            filter: Filter::starter(),
        },
        Change::RelayGone {
            id: RelayId([1; 16]),
        },
    ];
    for event in [
        MapEvent::Snapshot(Box::new(map())),
        MapEvent::Delta(Delta {
            from: 1,
            to: 2,
            lineage: None,
            confirm: false,
            changes,
        }),
        MapEvent::Alive,
        MapEvent::Removed,
    ] {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            serde_json::from_str::<MapEvent>(&text).unwrap(),
            event,
            "{text}"
        );
    }
}
