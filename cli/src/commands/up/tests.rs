use clap::Parser;
use overlan::program::service::{Serve, Target};
use overlan::program::socket::{
    CallError, RefusalKind, Request, Response, call, call_until_stopped,
};
use overlan_protocol::UnixTime;
use overlan_protocol::api::TicketResponse;

use super::*;
use crate::commands::exit::Code;
use crate::commands::login::tests::device_of_nobody;

#[derive(Debug, Parser)]
struct UpLine {
    #[command(flatten)]
    up: UpArgs,
}

struct Up {
    _root: tempfile::TempDir,
    state: Arc<StateDir>,
    task: tokio::task::JoinHandle<Result<(), Failure>>,
}

/// A client that was enrolled before and finds no controller now.
async fn start() -> Up {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let state = Arc::new(StateDir::open(&path).unwrap());
    state.save_device(&device_of_nobody()).unwrap();
    state
        .save_ticket(&TicketResponse {
            ticket: "v4.public.none".to_owned(),
            expires: UnixTime::from_secs(1),
            networks: Vec::new(),
        })
        .unwrap();
    let directory = path.to_str().unwrap();
    let line = [
        "up",
        "--state-dir",
        directory,
        "--timeout",
        "0",
        "--socks",
        "127.0.0.1:0",
        "--dns",
        "127.0.0.1:0",
    ];
    let task = tokio::spawn(up(UpLine::try_parse_from(line).unwrap().up));
    while !state.socket_path().exists() && !task.is_finished() {
        tokio::task::yield_now().await;
    }
    Up {
        _root: root,
        state,
        task,
    }
}

#[tokio::test]
async fn a_client_without_a_controller_is_commanded_and_comes_down() {
    let up = start().await;
    let socket = up.state.socket_path();
    let web = Serve::tcp(80, "127.0.0.1:8080".parse::<Target>().unwrap());
    call(&socket, &Request::ServeAdd(web.clone()))
        .await
        .unwrap();
    let Response::Status(status) = call(&socket, &Request::Status).await.unwrap() else {
        panic!("no status");
    };
    assert_eq!(status.state, overlan::program::status::State::Connecting);
    assert_eq!(status.serves, [web]);
    assert!(status.socks.unwrap().port() != 0 && status.dns.unwrap().port() != 0);

    let other = Serve::tcp(80, "127.0.0.1:1".parse::<Target>().unwrap());
    let refused = call(&socket, &Request::ServeAdd(other)).await.unwrap_err();
    assert!(matches!(
        refused,
        CallError::Refused(refusal) if refusal.kind == RefusalKind::Conflict
    ));
    call(
        &socket,
        &Request::ServeRemove {
            port: 80,
            transport: None,
        },
    )
    .await
    .unwrap();
    let Response::Status(status) = call(&socket, &Request::Status).await.unwrap() else {
        panic!("no status");
    };
    assert_eq!(status.serves, []);

    call_until_stopped(&socket, &Request::Down).await.unwrap();
    // Everything is free again when `down` returns.
    assert!(!socket.exists());
    up.state.lock().unwrap();
    up.task.await.unwrap().unwrap();
    assert!(up.state.load_device().unwrap().is_some());
}

#[tokio::test]
async fn a_client_that_logs_out_without_a_controller_forgets_the_device_and_says_so() {
    let up = start().await;
    let refused = call_until_stopped(&up.state.socket_path(), &Request::Logout)
        .await
        .unwrap_err();
    let failure = Failure::from(refused);
    assert_eq!(failure.code(), Code::ControllerUnreachable);
    assert!(failure.to_string().contains("removed here"), "{failure}");
    up.task.await.unwrap().unwrap();
    assert!(up.state.load_device().unwrap().is_none());
    assert!(up.state.load_ticket().unwrap().is_none());
}

#[tokio::test]
async fn a_second_client_of_the_same_directory_is_turned_away() {
    let up_first = start().await;
    let directory = up_first.state.path().to_str().unwrap();
    let second = UpLine::try_parse_from([
        "up",
        "--state-dir",
        directory,
        "--socks",
        "off",
        "--dns",
        "off",
    ]);
    let failure = up(second.unwrap().up).await.unwrap_err();
    assert!(failure.to_string().contains("overlan down"), "{failure}");
    call_until_stopped(&up_first.state.socket_path(), &Request::Down)
        .await
        .unwrap();
    up_first.task.await.unwrap().unwrap();
}

#[test]
fn somebody_at_a_terminal_may_wait_and_a_script_is_told() {
    assert_eq!(wait_for(None, true), None);
    assert_eq!(wait_for(None, false), Some(READY_WITHIN));
    assert_eq!(wait_for(Some(0), false), None);
    assert_eq!(wait_for(Some(5), true), Some(Duration::from_secs(5)));
}

#[test]
fn the_host_has_a_name() {
    assert!(!system_hostname().is_empty());
}
