use std::path::Path;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::call::{ANSWER_MAX, exchange};
use super::short_path::SOCKET_PATH_MAX;
use super::*;
use crate::doors::serve::service::{Serve, Target};

struct Running {
    _root: tempfile::TempDir,
    path: PathBuf,
    _lock: DirLock,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<StopWaiters>,
    seen: Arc<Mutex<Vec<Request>>>,
}

fn state_in(path: &Path) -> (StateDir, DirLock) {
    let state = StateDir::open(path).unwrap();
    let lock = state.lock().unwrap();
    (state, lock)
}

fn start_with(limits: ConnectionLimits, below: &str) -> Running {
    let root = tempfile::tempdir().unwrap();
    let (state, lock) = state_in(&root.path().join(below));
    let mut socket = ControlSocket::bind(&state, &lock).unwrap();
    socket.limits = limits;
    let stop = CancellationToken::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let (stop, seen) = (stop.clone(), Arc::clone(&seen));
        move |request: Request| {
            let (stop, seen) = (stop.clone(), Arc::clone(&seen));
            async move {
                seen.lock().push(request.clone());
                match request {
                    Request::Down => {
                        stop.cancel();
                        Response::Done
                    }
                    Request::Version => Response::Version("9.9.9".to_owned()),
                    Request::ServeRemove { port, .. } => Response::Refused(Refusal {
                        kind: RefusalKind::Conflict,
                        message: format!("nothing is served on port {port}"),
                        next: None,
                    }),
                    Request::Status
                    | Request::Logout
                    | Request::ServeAdd(_)
                    | Request::RouteAdd(_)
                    | Request::RouteRemove(_)
                    | Request::Perf { .. }
                    | Request::PerfServe { .. }
                    | Request::Carry(_)
                    | Request::Ping { .. }
                    | Request::Whois { .. }
                    | Request::DnsQuery { .. } => Response::Done,
                }
            }
        }
    };
    Running {
        path: state.socket_path(),
        _root: root,
        _lock: lock,
        task: tokio::spawn(socket.run(handler, stop.clone())),
        stop,
        seen,
    }
}

fn start() -> Running {
    start_with(ConnectionLimits::default(), "state")
}

async fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The other side may close before it has read everything.
    let _sent = stream.write_all(bytes).await;
    let mut text = Vec::new();
    let _read = stream.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn requests_reach_the_handler_and_answers_come_back() {
    let running = start();
    let serve = Request::ServeAdd(Serve::tcp(80, "127.0.0.1:8080".parse::<Target>().unwrap()));
    let answer = call(&running.path, &serve).await.unwrap();
    assert_eq!(answer, Response::Done);
    let answer = call(&running.path, &Request::Version).await.unwrap();
    assert_eq!(answer, Response::Version("9.9.9".to_owned()));
    assert_eq!(*running.seen.lock(), [serve, Request::Version]);
}

#[tokio::test]
async fn a_refusal_is_an_error_with_the_text_of_the_running_program() {
    let running = start();
    let error = call(
        &running.path,
        &Request::ServeRemove {
            port: 7,
            transport: None,
        },
    )
    .await
    .unwrap_err();
    assert!(matches!(
        &error,
        CallError::Refused(refusal) if refusal.kind == RefusalKind::Conflict
    ));
    assert_eq!(error.to_string(), "nothing is served on port 7");
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_goes_with_its_server() {
    let running = start();
    let mode = fs::metadata(&running.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    running.stop.cancel();
    running.task.await.unwrap();
    assert!(!running.path.exists());
    let error = call(&running.path, &Request::Status).await.unwrap_err();
    assert!(matches!(error, CallError::NotRunning(_)), "{error:?}");
    assert!(error.to_string().contains("overlan up"), "{error}");
}

#[tokio::test]
async fn down_is_answered_and_returns_when_everything_has_stopped() {
    let running = start();
    let path = running.path.clone();
    let mut asker =
        tokio::spawn(async move { call_until_stopped(&path, &Request::Down).await.unwrap() });
    let waiting = running.task.await.unwrap();
    assert_eq!(waiting._connections.len(), 1);
    // The runtime gets to run everything that can run; the asker is not among it.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!asker.is_finished());
    drop(waiting);
    assert_eq!((&mut asker).await.unwrap(), Response::Done);
}

#[tokio::test]
async fn a_socket_left_by_a_dead_process_is_replaced_and_means_not_running() {
    let root = tempfile::tempdir().unwrap();
    let (state, lock) = state_in(&root.path().join("state"));
    let path = state.socket_path();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let error = call(&path, &Request::Status).await.unwrap_err();
    assert!(matches!(error, CallError::NotRunning(_)), "{error:?}");
    ControlSocket::bind(&state, &lock).unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_deleted() {
    let root = tempfile::tempdir().unwrap();
    let (state, lock) = state_in(&root.path().join("state"));
    fs::write(state.socket_path(), "precious").unwrap();
    let error = ControlSocket::bind(&state, &lock).unwrap_err();
    assert!(matches!(error, BindError::Occupied(_)));
    assert_eq!(fs::read(state.socket_path()).unwrap(), b"precious");
}

#[tokio::test]
async fn a_path_longer_than_a_socket_address_works() {
    let below = ["a-long-directory-name"; 8].join("/");
    let running = start_with(ConnectionLimits::default(), &below);
    assert!(running.path.as_os_str().len() > SOCKET_PATH_MAX);
    let answer = call(&running.path, &Request::Version).await.unwrap();
    assert_eq!(answer, Response::Version("9.9.9".to_owned()));
}

#[tokio::test]
async fn an_oversized_request_is_refused_and_closed_without_reading_it_all() {
    let running = start();
    let answer = raw(&running.path, &vec![b'x'; REQUEST_MAX + 1]).await;
    assert!(answer.contains("exceeds 65536 bytes"), "{answer}");
    assert!(running.seen.lock().is_empty());
    // The longest allowed line is read and judged by its content.
    let mut line = vec![b' '; REQUEST_MAX - 10];
    line.extend_from_slice(b"\"version\"\n");
    let mut stream = UnixStream::connect(&running.path).await.unwrap();
    stream.write_all(&line).await.unwrap();
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"{\"version\":");
}

#[tokio::test]
async fn garbage_and_unknown_requests_say_that_another_version_runs() {
    let running = start();
    for line in ["\"dance\"\n", "{}\n", "\n", "\u{fffd}\n"] {
        let mut stream = BufStream::new(UnixStream::connect(&running.path).await.unwrap());
        stream.write_all(line.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let answer = read_line(&mut stream, ANSWER_MAX).await.unwrap().unwrap();
        let answer: Response = parse(&answer).unwrap();
        assert!(
            matches!(
                &answer,
                Response::Refused(refusal) if refusal.kind == RefusalKind::NotUnderstood
            ),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_let_go_and_does_not_keep_others_out() {
    let limits = ConnectionLimits {
        line_within: Duration::from_millis(20),
        ..ConnectionLimits::default()
    };
    let running = start_with(limits, "state");
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS_MAX {
        silent.push(UnixStream::connect(&running.path).await.unwrap());
    }
    let answer = call(&running.path, &Request::Version).await.unwrap();
    assert_eq!(answer, Response::Version("9.9.9".to_owned()));
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = exchange(&path, &Request::Status, None, Duration::from_millis(10))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::TimedOut(_)), "{error:?}");
}

#[test]
fn only_the_same_user_and_the_superuser_may_command() {
    assert!(may_command(1000, 1000));
    assert!(may_command(0, 1000));
    assert!(!may_command(1001, 1000));
    assert!(!may_command(1000, 0));
}

/// Serves requests that take until they are stopped, telling one thing at their begin; says when
/// one came to its end.
fn start_long(root: &Path, stop: &CancellationToken) -> (PathBuf, DirLock, mpsc::Receiver<()>) {
    let (state, lock) = state_in(root);
    let socket = ControlSocket::bind(&state, &lock).unwrap();
    let (ended, ends) = mpsc::channel(1);
    let handler = move |_: Request| {
        let ended = ended.clone();
        async move {
            let (told, progress) = mpsc::channel(1);
            let stop = CancellationToken::new();
            let stopped = stop.clone();
            let work = Box::pin(async move {
                let listening = perf::Progress::Listening { port: 7 };
                told.send(listening).await.unwrap();
                stopped.cancelled().await;
                ended.send(()).await.unwrap();
                Response::Done
            });
            Answer::Running(super::Running {
                work,
                progress,
                stop,
            })
        }
    };
    tokio::spawn(socket.run(handler, stop.clone()));
    (state.socket_path(), lock, ends)
}

#[tokio::test]
async fn what_takes_its_time_tells_how_it_goes_and_ends_when_the_asker_wants() {
    let root = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (path, _lock, _ends) = start_long(&root.path().join("state"), &stop);
    let enough = CancellationToken::new();
    let mut told = Vec::new();
    let request = Request::PerfServe { port: 7 };
    let answer = call_and_follow(&path, &request, enough.cancelled(), |progress| {
        told.push(progress);
        enough.cancel();
    });
    assert_eq!(answer.await.unwrap(), Response::Done);
    assert_eq!(told, [perf::Progress::Listening { port: 7 }]);
}

#[tokio::test]
async fn what_takes_its_time_ends_when_the_client_stops() {
    let root = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (path, _lock, _ends) = start_long(&root.path().join("state"), &stop);
    let request = Request::PerfServe { port: 7 };
    let never = std::future::pending();
    let answer = call_and_follow(&path, &request, never, |_| stop.cancel()).await;
    assert_eq!(answer.unwrap(), Response::Done);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_comes_to_its_end() {
    let root = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (path, _lock, mut ends) = start_long(&root.path().join("state"), &stop);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = serde_json::to_string(&Request::PerfServe { port: 7 }).unwrap();
    stream
        .write_all(format!("{request}\n").as_bytes())
        .await
        .unwrap();
    let mut told = [0; 16];
    stream.read_exact(&mut told).await.unwrap();
    drop(stream);
    assert_eq!(ends.recv().await, Some(()));
}
