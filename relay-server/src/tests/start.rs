//! A relay from its start to its end: ports, registration, the operator's door, draining.

use super::controller::{Controller, TOKEN};
use super::lab::{Device, Heard, Lab, Wire};
use super::*;

#[tokio::test]
async fn a_taken_port_is_named_before_anything_else_happens() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let mut config = Lab::new().config(state.path());
    config.listen = taken.local_addr().unwrap();
    let addr = config.listen;
    let error = Relay::bind(config).await.err().unwrap();
    assert!(matches!(error, StartError::PortInUse { addr: at } if at == addr));
}

#[tokio::test]
async fn a_first_start_needs_a_token_and_an_answer() {
    let state = tempfile::tempdir().unwrap();
    let mut config = Lab::new().config(state.path());
    std::fs::remove_file(state.path().join("registration.json")).unwrap();
    let error = Relay::bind(config.clone()).await.err().unwrap();
    assert!(matches!(error, StartError::NeedsToken), "{error}");
    config.token = Some(Secret::new("ovr_x_y"));
    let settings = Settings {
        register_within: Duration::ZERO,
        ..short()
    };
    let error = Relay::bind_with(config.clone(), settings)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, StartError::Controller { .. }), "{error}");
    assert!(!error.to_string().contains("ovr_"), "{error}");
    config.listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Relay::bind(config).await.err().unwrap();
    assert!(matches!(error, StartError::AddressNeeded { .. }), "{error}");
}

#[tokio::test]
async fn a_new_relay_registers_obeys_new_orders_and_restarts_without_the_controller() {
    let lab = Lab::new();
    let mut controller = Controller::start(lab.relay, lab.orders(1, Vec::new())).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = lab.config(dir.path());
    std::fs::remove_file(dir.path().join("registration.json")).unwrap();
    config.join = controller.join.clone();
    config.token = Some(Secret::new("ovr_not_that"));
    let error = Relay::bind(config.clone()).await.err().unwrap();
    assert!(matches!(error, StartError::TokenRefused { .. }), "{error}");

    config.token = Some(Secret::new(TOKEN));
    let relay = Relay::bind_with(config.clone(), short()).await.unwrap();
    assert_eq!((relay.id(), relay.name()), (lab.relay, "lab-1"));
    let (address, pin) = (relay.local_addr(), relay.pins()[0]);
    let stop = CancellationToken::new();
    let task = tokio::spawn(relay.run(stop.clone()));
    let beat = controller.beat(1).await;
    assert_eq!((beat.applied, beat.pins), (1, vec![pin]));
    assert_eq!(beat.addresses, [address.to_string()]);

    // A revocation reaches the client through the heartbeat that the controller holds.
    let device = Device::new(&[(NET, 1)]);
    let ticket = lab.sign(&lab.ticket(&device, clock::wall()));
    let mut wire = Wire::connect(address, pin).await;
    let answer = wire.hello(&device.secret, lab.relay, &ticket, 1).await;
    assert!(matches!(answer, Heard::Welcome(_)), "{answer:?}");
    let orders = lab.orders(2, vec![(device.id, 2)]);
    controller.orders.send_replace(orders);
    assert_eq!(rejected(&wire.hear().await), Some(RejectCode::Revoked));
    controller.beat(2).await;
    stop.cancel();
    task.await.unwrap();

    // The controller is away, and the orders of yesterday hold.
    drop(controller);
    config.token = None;
    let relay = Relay::bind_with(config, short()).await.unwrap();
    assert_eq!(relay.pins(), [pin]);
    let address = relay.local_addr();
    let stop = CancellationToken::new();
    let task = tokio::spawn(relay.run(stop.clone()));
    let mut wire = Wire::connect(address, pin).await;
    let answer = wire.hello(&device.secret, lab.relay, &ticket, 2).await;
    assert_eq!(rejected(&answer), Some(RejectCode::Revoked));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn the_operators_door_has_two_paths() {
    let relay = Running::start(short()).await;
    let _wire = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    let health = http_get(relay.metrics, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains("\"clients\":1"), "{health}");
    let metrics = http_get(relay.metrics, "/metrics").await;
    assert!(metrics.contains("overlan_relay_clients 1\n"), "{metrics}");
    let other = http_get(relay.metrics, "/debug").await;
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    relay.stop().await;
}

#[tokio::test]
async fn stopping_asks_clients_to_leave_and_then_ends_them() {
    let relay = Running::start(short()).await;
    let mut wire = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    relay.stop.cancel();
    assert_eq!(wire.hear().await, Heard::Drain(200));
    assert_eq!(rejected(&wire.hear().await), Some(RejectCode::Draining));
    relay.task.await.unwrap();
    assert!(TcpStream::connect(relay.address).await.is_err());
}
