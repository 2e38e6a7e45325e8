use overlan_protocol::api::{
    ApproveRequest, LoginResponse, OfferRequest, ProblemKind, RouteSummary, path,
};
use overlan_protocol::dns::Record;
use overlan_protocol::gateway::{GatewayRoute, OfferedRoute, ROUTES_MAX};
use overlan_transport::https::HttpsError;

use crate::lab::{Device, Lab, WITHIN, network, peer, refused};

fn routes(texts: &[&str]) -> Vec<GatewayRoute> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn offer(
    lab: &Lab,
    device: &Device,
    routes: Vec<impl Into<OfferedRoute>>,
) -> Result<Vec<RouteSummary>, HttpsError> {
    let mut connection = device.connect(lab).await;
    let routes = routes.into_iter().map(Into::into).collect();
    let request = OfferRequest { routes };
    connection.post(path::DEVICE_ROUTES, &request, WITHIN).await
}

async fn approve(
    lab: &Lab,
    owner: &LoginResponse,
    device: &Device,
    route: &str,
    approved: bool,
) -> Result<RouteSummary, HttpsError> {
    let request = ApproveRequest {
        device: device.id(),
        network: "demo".to_owned(),
        route: route.parse().unwrap(),
        approved,
    };
    let mut connection = lab.person(owner).await;
    connection.post(path::ROUTES, &request, WITHIN).await
}

#[tokio::test]
async fn what_a_device_offers_is_told_to_members_once_a_person_approved_it() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let gateway = lab.enrol(&key, "gateway").await;
    let web = lab.enrol(&key, "web").await;
    let mut own = gateway.stream(&lab).await;
    let mut stream = web.stream(&lab).await;

    let offered = offer(&lab, &gateway, routes(&["10.1.0.0/16", "db.internal:5432"]))
        .await
        .unwrap();
    assert!(
        offered
            .iter()
            .all(|offer| !offer.approved && offer.network == "demo")
    );
    assert_eq!(offered.len(), 2);
    let unknown = approve(&lab, &owner, &gateway, "10.2.0.0/16", true).await;
    assert_eq!(refused(unknown), ProblemKind::NotFound);
    let done = approve(&lab, &owner, &gateway, "10.1.0.0/16", true)
        .await
        .unwrap();
    assert!(done.approved);
    stream
        .until("the route", |map| {
            peer(map, "gateway").is_some_and(|it| it.routes == routes(&["10.1.0.0/16"]))
        })
        .await;
    own.until("its own route", |map| {
        network(map).routes == routes(&["10.1.0.0/16"])
    })
    .await;
    assert_eq!(
        peer(&web.stream(&lab).await.map, "gateway").unwrap().routes,
        routes(&["10.1.0.0/16"]),
        "in a snapshot, too"
    );

    // The same offer again changes nothing; without the route its approval is gone.
    let same = offer(&lab, &gateway, routes(&["10.1.0.0/16", "*.corp.internal"])).await;
    assert!(same.unwrap().iter().any(|offer| offer.approved));
    offer(&lab, &gateway, routes(&["*.corp.internal"]))
        .await
        .unwrap();
    stream
        .until("no route", |map| {
            peer(map, "gateway").is_some_and(|it| it.routes.is_empty())
        })
        .await;
    let again = offer(&lab, &gateway, routes(&["10.1.0.0/16"]))
        .await
        .unwrap();
    assert!(!again[0].approved);
    approve(&lab, &owner, &gateway, "10.1.0.0/16", true)
        .await
        .unwrap();
    approve(&lab, &owner, &gateway, "10.1.0.0/16", false)
        .await
        .unwrap();
    let mut person = lab.person(&owner).await;
    let listed: Vec<RouteSummary> = person.get(path::ROUTES, WITHIN).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].label.as_str(), listed[0].approved),
        ("gateway", false)
    );
}

fn wishes(texts: &[&str]) -> Vec<OfferedRoute> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn an_approved_host_has_its_name_as_long_as_some_device_leads_there() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let first = lab.enrol(&key, "first").await;
    let second = lab.enrol(&key, "second").await;
    let web = lab.enrol(&key, "web").await;
    let mut stream = web.stream(&lab).await;
    let name = "db.demo.overlan.lan";
    let record = [Record::Cname("db.internal".to_owned())];
    let offers = ["db.internal:5432 as db", "10.1.2.3 as web"];
    for device in [&first, &second] {
        let answer = offer(&lab, device, wishes(&offers)).await.unwrap();
        assert_eq!(answer.iter().filter(|it| it.name.is_some()).count(), 2);
    }
    assert!(network(&stream.map).dns.records.is_empty());

    // A wish for the name of a device is refused at approval, and nothing is approved.
    let taken = approve(&lab, &owner, &first, "10.1.2.3", true).await;
    assert_eq!(refused(taken), ProblemKind::NameTaken);

    let done = approve(&lab, &owner, &first, "db.internal:5432", true).await;
    assert_eq!(done.unwrap().name.as_deref(), Some("db"));
    stream
        .until("the name", |map| {
            network(map).dns.records.get(name).map(Vec::as_slice) == Some(&record)
                && peer(map, "first").is_some_and(|it| it.routes == routes(&["db.internal:5432"]))
        })
        .await;
    // The second leads there as well, and keeps the name when the first withdraws.
    approve(&lab, &owner, &second, "db.internal:5432", true)
        .await
        .unwrap();
    offer(&lab, &first, wishes(&["10.7.0.0/16"])).await.unwrap();
    stream
        .until("the first without its route", |map| {
            peer(map, "first").is_some_and(|it| it.routes.is_empty())
        })
        .await;
    assert!(network(&stream.map).dns.records.contains_key(name));

    // Another name is another wish.
    let other = wishes(&["db.internal:5432 as sql"]);
    let answer = offer(&lab, &second, other).await.unwrap();
    assert!(answer.iter().all(|it| !it.approved));
    stream
        .until("no name", |map| network(map).dns.records.is_empty())
        .await;
    approve(&lab, &owner, &second, "db.internal:5432", true)
        .await
        .unwrap();
    stream
        .until("the other name", |map| {
            network(map)
                .dns
                .records
                .contains_key("sql.demo.overlan.lan")
        })
        .await;
    // With the device goes what it led to.
    let mut connection = second.connect(&lab).await;
    connection.delete(path::DEVICE, WITHIN).await.unwrap();
    stream
        .until("nothing", |map| network(map).dns.records.is_empty())
        .await;
}

#[tokio::test]
async fn offers_have_limits_and_never_take_names_of_devices() {
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let gateway = lab.enrol(&key, "gateway").await;
    let many = (0..=ROUTES_MAX).map(|number| format!("10.{number}.0.0/16").parse().unwrap());
    let too_many = offer(&lab, &gateway, many.collect::<Vec<GatewayRoute>>()).await;
    assert_eq!(refused(too_many), ProblemKind::BadRequest);
    for stolen in [
        "web.demo.overlan.lan",
        "*.overlan.lan",
        "*.demo.overlan.lan",
    ] {
        let result = offer(&lab, &gateway, routes(&[stolen])).await;
        assert_eq!(refused(result), ProblemKind::BadRequest, "{stolen}");
    }
    let mut connection = gateway.connect(&lab).await;
    let wide = serde_json::json!({ "routes": ["0.0.0.0/0"] });
    let result = connection
        .post::<_, serde_json::Value>(path::DEVICE_ROUTES, &wide, WITHIN)
        .await;
    assert_eq!(refused(result), ProblemKind::BadRequest);
    let mut person = lab.person(&owner).await;
    let listed: Vec<RouteSummary> = person.get(path::ROUTES, WITHIN).await.unwrap();
    assert_eq!(listed, []);
}
