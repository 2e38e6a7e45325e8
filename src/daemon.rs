//! A running `up`: a device with its listeners and its control socket, by which other commands of
//! this host ask it. Decides the order in which these begin and end; it reads no command line and
//! prints nothing.

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

/// A running `up`. To be ended by [`Daemon::end`].
#[derive(Debug)]
pub struct Daemon {
    node: Node,
    tasks: ListenerTasks,
    answers: Arc<Answers>,
    control: JoinHandle<Option<StopWaiters>>,
    /// Somebody asked for the end; `stop` ends what is left then.
    down: CancellationToken,
    stop: CancellationToken,
}

impl Daemon {
    /// Starts `device` and serves `listeners`, and the control socket if there is one.
    ///
    /// # Errors
    /// [`NodeError`] if the device cannot start; nothing runs then.
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

    /// Returns a token that is cancelled when somebody asks for the end on the control socket.
    pub fn down(&self) -> CancellationToken {
        self.down.clone()
    }

    /// Returns its listeners.
    pub fn listeners(&self) -> &Listeners {
        self.tasks.listeners()
    }

    /// Serves `listeners` instead of the present ones, beside which they were opened, and reaches
    /// the controller by `outgoing` at a logout. Returns the Unix sockets whose permissions did not
    /// change.
    pub fn change(&mut self, listeners: Listeners, outgoing: Outgoing) -> Vec<ModeNotSet> {
        let failed = listeners.proxy.set_modes();
        self.tasks.change(listeners);
        self.answers.change(self.tasks.places(), outgoing);
        failed
    }

    /// Lets nobody in any more, gives open connections `drain` to end, resets what is left and
    /// stops the device. Askers who wait for the end hear of it when the returned value is dropped.
    pub async fn end(mut self, drain: Duration) -> Option<StopWaiters> {
        // Also where a signal asked.
        self.down.cancel();
        self.tasks.close();
        // Open connections may finish; those that do not are reset, so that no program takes a cut
        // answer for a whole one.
        let _ = timeout(drain, async {
            tokio::join!(self.node.drain(drain), self.tasks.ended());
            // The last bytes that they wrote.
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

/// Time for the connections of programs to hear that they were reset.
const RESET_WITHIN: Duration = Duration::from_secs(1);
