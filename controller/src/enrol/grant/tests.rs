use overlan_protocol::frame::Vni;

use super::*;

fn network(number: u32, name: &str) -> NetworkRow {
    NetworkRow {
        id: NetworkId([u8::try_from(number).unwrap(); 16]),
        name: name.to_owned(),
        vni: Vni::new(Vni::FIRST + number).unwrap(),
        is_default: number == 2,
        devices: 0,
        online: 0,
        former: Vec::new(),
    }
}

fn networks() -> Vec<NetworkRow> {
    vec![
        network(1, "build"),
        network(2, "home"),
        network(3, "office"),
    ]
}

fn key(networks: &[u32]) -> AuthKey {
    let id = |number: &u32| network(*number, "").id;
    AuthKey {
        id: "k1".to_owned(),
        org: OrgId(1),
        networks: networks.iter().map(id).collect(),
        reusable: false,
        ephemeral: true,
        approval: true,
        on_name_taken: NamePolicy::Fail,
        expires: Default::default(),
        last_used: None,
        revoked: None,
        note: "ci".to_owned(),
        tags: Default::default(),
        uses: 0,
        max_uses: None,
        sources: Vec::new(),
        ephemeral_secs: None,
    }
}

fn names(grant: &Grant) -> Vec<&str> {
    let names = grant.networks.iter().map(|network| network.name.as_str());
    names.collect()
}

fn wanted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_login_leads_into_the_default_network_or_the_named_ones() {
    let of = |names: &[&str]| {
        let wanted = wanted(names);
        Grant::of_person(OrgId(1), 7, "a@example.com", networks(), &wanted)
    };
    assert_eq!(names(&of(&[]).unwrap()), ["home"]);
    assert_eq!(
        names(&of(&["office", "home", "office"]).unwrap()),
        ["office", "home"]
    );
    assert_eq!(
        names(&of(&[ALL_NETWORKS]).unwrap()),
        ["build", "home", "office"]
    );
    let unknown = GrantError::UnknownNetwork {
        label: "lab".to_owned(),
        known: wanted(&["build", "home", "office"]),
    };
    assert_eq!(of(&["home", "lab"]).unwrap_err(), unknown);
    let grant = of(&["office"]).unwrap();
    assert_eq!((grant.account(), grant.key()), (Some(7), None));
    assert_eq!(grant.by, "login of a@example.com");
}

#[test]
fn a_key_leads_into_its_own_networks_and_the_default_one_comes_first() {
    let of = |names: &[&str]| Grant::of_auth_key(key(&[1, 2]), networks(), &wanted(names));
    assert_eq!(names(&of(&[]).unwrap()), ["home", "build"]);
    let grant = of(&["build"]).unwrap();
    assert_eq!(names(&grant), ["build"]);
    assert_eq!(grant.later.len(), 2);
    assert!(grant.ephemeral && grant.approval);
    assert_eq!((grant.account(), grant.key()), (None, Some("k1")));
    assert_eq!(grant.by, "auth key k1 (ci)");
    let other = GrantError::NotOfRight {
        right: "auth key",
        label: "office".to_owned(),
        allowed: wanted(&["home", "build"]),
    };
    assert_eq!(of(&["office"]).unwrap_err(), other);
}
