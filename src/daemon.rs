//! A running `up`: a device with its listeners, and with the control socket for other commands of
//! this host. Decides the order in which these begin and end; reads no command line and prints
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use overlan_transport::outgoing::Outgoing;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::device::node::{Node, NodeError, NodeOptions};
use crate::device::state::{Device, StateDir};

use answers::Answers;
use listeners::{ListenerTasks, Listeners, ModeNotSet};
use socket::{ControlSocket, StopWaiters};

pub mod socket;

pub mod answers;

pub mod listeners;

pub mod serve_list;

pub mod carry;

pub mod perf;

pub mod notify;

pub mod reload;

/// A running `up`. [`Daemon::end`] ends it.
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    tasks: ListenerTasks,
    answers: Arc<Answers>,
    control: JoinHandle<Option<StopWaiters>>,
    /// Cancelled when the end is asked for; `stop` ends the tasks that are left then.
    down: CancellationToken,
    stop: CancellationToken,
}

impl Daemon {
    /// Starts `device`, and serves `listeners` and the control socket if there is one.
    ///
    /// # Errors
    /// [`NodeError`] if the device cannot start; no task runs then.
    pub fn start(
        state: &Arc<StateDir>,
        device: Device,
        options: NodeOptions,
        listeners: Listeners,
        socket: Option<ControlSocket>,
    ) -> Result<Self, NodeError> {
        let outgoing = options.outgoing.clone();
        let node = Node::start(Arc::clone(state), device, options)?;
        let (down, stop) = (CancellationToken::new(), CancellationToken::new());
        let tasks = ListenerTasks::begin(&node, listeners, &stop);
        let answers = Answers::new(&node, state, tasks.places(), outgoing, &down);
        let answers = Arc::new(answers);
        let control = tokio::spawn({
            let answers = Arc::clone(&answers);
            let handler = move |request| {
                let answers = Arc::clone(&answers);
                async move { answers.answer(request).await }
            };
            let stop = stop.clone();
            async move { Some(socket?.run(handler, stop).await) }
        });
        Ok(Self {
            node,
            tasks,
            answers,
            control,
            down,
            stop,
        })
    }

    /// Returns its device.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Returns its answers, which know its status.
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// Returns a token that is cancelled when a command asks for the end on the control socket.
    pub fn down(&self) -> CancellationToken {
        self.down.clone()
    }

    /// Returns its listeners.
    pub fn listeners(&self) -> &Listeners {
        self.tasks.listeners()
    }

    /// Serves `listeners`, which were opened beside the present ones, in place of those. A logout
    /// then reaches the controller by `outgoing`. Returns the Unix sockets whose permissions stay
    /// as they were.
    pub fn change(&mut self, listeners: Listeners, outgoing: Outgoing) -> Vec<ModeNotSet> {
        let failed = listeners.proxy.set_modes();
        self.tasks.change(listeners);
        self.answers.change(self.tasks.places(), outgoing);
        failed
    }

    /// Closes the listeners, gives open connections the time `drain` to end, resets the rest and
    /// stops the device. Commands that wait for the end see it when the returned value is dropped.
    pub async fn end(mut self, drain: Duration) -> Option<StopWaiters> {
        // A signal may have asked, too.
        self.down.cancel();
        self.tasks.close();
        // Open connections may finish. The rest is reset, so that no program takes a cut answer for
        // a whole one.
        let _ = timeout(drain, async {
            tokio::join!(self.node.drain(drain), self.tasks.ended());
            // For the last bytes that they wrote.
            self.node.drain(drain).await;
        })
        .await;
        self.node.leave().await;
        let _ = timeout(RESET_WITHIN, self.tasks.ended()).await;
        self.stop.cancel();
        self.tasks.ended().await;
        self.node.shutdown().await;
        self.control.await.ok().flatten()
    }
}

/// Time for programs to see that their connections were reset.
const RESET_WITHIN: Duration = Duration::from_secs(1);
