//! The listeners that `exec` opens for its program alone: a proxy with a password of its own, and
//! ports that lead to peers. Decides which variables name them to the program. The process that has
//! the device carries what comes in.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use overlan::program::carry::{self, Carry, CarryError, Happened, OwnProxy};
use overlan::program::node::Node;
use overlan::program::proxy::ProxyConfig;
use overlan::program::socket::{CallError, RefusalKind, Request, call_with_sockets};
use overlan_protocol::key::{Secret, random_bytes};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::commands::exit::{Code, Failure};
use crate::commands::forward::{self, Opened, Spec};
use crate::commands::output;

/// The proxy that a person asks for.
pub(super) struct ProxyWish {
    /// Ports that lead to peers.
    pub(super) forwards: Vec<Spec>,
    /// True if foreign destinations are dialled from this host.
    pub(super) direct: bool,
    /// True if `ALL_PROXY` names SOCKS5.
    pub(super) socks: bool,
}

/// Open sockets that nobody serves yet.
pub(super) struct PrivateProxy {
    proxy: SocketAddr,
    password: Secret,
    socks: bool,
    carried: Vec<(Carry, Vec<OwnedFd>)>,
    forwards: Vec<Opened>,
}

impl PrivateProxy {
    /// Takes the ports.
    pub(super) fn open(wanted: ProxyWish) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::new(
                Code::Other,
                format!("cannot open a proxy on 127.0.0.1: {error}"),
            )
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(cannot)?;
        let proxy = listener.local_addr().map_err(cannot)?;
        let password = Secret::new(&BASE64URL_NOPAD.encode(&random_bytes::<PASSWORD_LEN>()));
        let own = OwnProxy {
            user: USER.to_owned(),
            password: password.clone(),
            direct: wanted.direct,
        };
        let mut carried = vec![(Carry::Proxy(own), vec![OwnedFd::from(listener)])];
        let opened = forward::open_all(wanted.forwards, forward::ForwardOptions::default())?;
        if !opened.sockets.is_empty() {
            carried.push((Carry::Forward(opened.forwards), opened.sockets));
        }
        Ok(Self {
            proxy,
            password,
            socks: wanted.socks,
            carried,
            forwards: opened.doors,
        })
    }

    /// Returns the variables that tell the program of them, beside those that it has already.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let url = |scheme| {
            format!(
                "{scheme}://{USER}:{}@{}",
                self.password.reveal(),
                self.proxy
            )
        };
        let all = if self.socks { "socks5h" } else { "http" };
        let mut variables: Vec<(String, String)> = Vec::new();
        let mut both = |name: &str, value: String| {
            variables.push((name.to_ascii_lowercase(), value.clone()));
            variables.push((name.to_owned(), value));
        };
        both("ALL_PROXY", url(all));
        both("HTTP_PROXY", url("http"));
        both("HTTPS_PROXY", url("http"));
        both(
            "NO_PROXY",
            not_proxied(&[said("NO_PROXY"), said("no_proxy")]),
        );
        if said(NODE).is_none() {
            variables.push((NODE.to_owned(), "1".to_owned()));
        }
        for (number, opened) in (1..).zip(&self.forwards) {
            variables.push((format!("OVERLAN_FORWARD_{number}"), opened.place()));
        }
        variables
    }

    /// Lets `node` serve them. Returns when programs can come in.
    pub(super) async fn served_by(self, node: &Node) -> Result<ServedProxy, Failure> {
        let node = node.clone();
        self.served(move |carry, sockets, happened, stop| {
            let node = node.clone();
            async move {
                let base = ProxyConfig::default();
                match carry::run(&node, carry, &base, sockets, happened, stop).await {
                    Ok(()) | Err(CarryError::Stopped) => Ok(()),
                    Err(error) => Err(Failure::new(Code::Other, error)),
                }
            }
        })
        .await
    }

    /// Lets the client that listens on `control` serve them. Returns when programs can come in.
    pub(super) async fn served_by_running(self, control: &Path) -> Result<ServedProxy, Failure> {
        let control = control.to_owned();
        self.served(move |carry, sockets, happened, stop| {
            let control = control.clone();
            async move {
                let request = Request::Carry(carry);
                let answer = call_with_sockets(
                    &control,
                    &request,
                    sockets,
                    stop.clone().cancelled_owned(),
                    // Only repeated lines of trouble find no room.
                    |event| drop(happened.try_send(event)),
                )
                .await;
                match answer {
                    Ok(_) => Ok(()),
                    Err(CallError::Refused(refusal))
                        if stop.is_cancelled() && refusal.kind == RefusalKind::Stopping =>
                    {
                        Ok(())
                    }
                    Err(error) => Err(Failure::from(error)),
                }
            }
        })
        .await
    }

    async fn served<F>(
        self,
        carry: impl Fn(Carry, Vec<OwnedFd>, mpsc::Sender<Happened>, CancellationToken) -> F,
    ) -> Result<ServedProxy, Failure>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (happened, events) = mpsc::channel(EVENTS_MAX);
        let mut serving = ServedProxy {
            forwards: self.forwards,
            foreign: BTreeSet::new(),
            events,
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        let doors = self.carried.len();
        for (carried, sockets) in self.carried {
            let stop = serving.stop.clone();
            serving
                .tasks
                .spawn(carry(carried, sockets, happened.clone(), stop));
        }
        drop(happened);
        let mut open = 0;
        while open < doors {
            tokio::select! {
                biased;
                Some(event) = serving.events.recv() => match event {
                    Happened::Listening => open += 1,
                    other @ (Happened::Connected { .. }
                    | Happened::Failed { .. }
                    | Happened::Foreign { .. }) => serving.tell(other),
                },
                Some(ended) = serving.tasks.join_next() => {
                    let failure = match ended {
                        Ok(Err(failure)) => failure,
                        Ok(Ok(())) | Err(_) => Failure::new(Code::Other, "the program's proxy \
                        ended before it began"),
                    };
                    return Err(failure);
                }
            }
        }
        Ok(serving)
    }
}

/// PrivateProxy that are served.
pub(super) struct ServedProxy {
    forwards: Vec<Opened>,
    /// Hosts outside the overlay that the program asked for in vain.
    foreign: BTreeSet<String>,
    events: mpsc::Receiver<Happened>,
    tasks: JoinSet<Result<(), Failure>>,
    stop: CancellationToken,
}

impl ServedProxy {
    /// Tells what happens at the doors until the program has ended, and then closes them.
    pub(super) async fn during<T>(mut self, program: impl Future<Output = T>) -> T {
        let mut program = std::pin::pin!(program);
        let ended = loop {
            tokio::select! {
                ended = &mut program => break ended,
                Some(event) = self.events.recv() => self.tell(event),
                Some(ended) = self.tasks.join_next() => if let Ok(Err(failure)) = ended {
                    output::note(&format!("error: the program has no overlay any more: {failure}"));
                },
            }
        };
        self.stop.cancel();
        while let Some(closed) = self.tasks.join_next().await {
            if let Ok(Err(failure)) = closed {
                tracing::debug!(%failure, "a door did not close in order");
            }
        }
        while let Ok(event) = self.events.try_recv() {
            self.tell(event);
        }
        self.tell_foreign();
        ended
    }

    fn tell(&mut self, event: Happened) {
        match event {
            Happened::Failed { forward, reason } => match self.forwards.get(forward) {
                Some(opened) => output::note(&format!("{opened}: {reason}")),
                None => tracing::debug!(forward, reason, "a forward that nobody asked for"),
            },
            Happened::Foreign { host } => {
                if self.foreign.len() < FOREIGN_MAX {
                    self.foreign.insert(host);
                }
            }
            Happened::Listening | Happened::Connected { .. } => {}
        }
    }

    /// Package managers show nothing of a proxy's answer but its number, and guess at the cause.
    fn tell_foreign(&self) {
        if self.foreign.is_empty() {
            return;
        }
        let hosts: Vec<&str> = self.foreign.iter().map(String::as_str).collect();
        output::note(&format!(
            "overlan exec refused connections to hosts outside the overlay: {}. `overlan exec \
             --proxy-direct …` lets them go out from this host; $NO_PROXY keeps them from the \
             proxy.",
            hosts.join(", ")
        ));
    }
}

/// Hosts that no proxy is asked for: those of the person first, then this host.
fn not_proxied(said: &[Option<String>]) -> String {
    let theirs = said.iter().flatten();
    let theirs = theirs.flat_map(|list| list.split([',', ' ']));
    let mut hosts: Vec<&str> = Vec::new();
    for host in theirs.chain(THIS_HOST) {
        let host = host.trim();
        if !host.is_empty() && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.join(",")
}

#[expect(
    clippy::disallowed_methods,
    reason = "these variables belong to all programs, not to a flag of ours"
)]
fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The destinations on this host. Programs differ: some know ranges, some only addresses.
const THIS_HOST: [&str; 4] = ["localhost", "127.0.0.0/8", "127.0.0.1", "::1"];

/// Lets node's own `fetch` read the variables (node 22.21 and 24).
const NODE: &str = "NODE_USE_ENV_PROXY";

/// The program's user name at its proxy.
const USER: &str = "exec";

/// Bytes of randomness in the password.
const PASSWORD_LEN: usize = 24;

/// Events that were not printed yet: one when each listener is open, and failures, which repeat.
const EVENTS_MAX: usize = 64;

/// Foreign hosts that are named at the end: as many as a person reads.
const FOREIGN_MAX: usize = 8;
