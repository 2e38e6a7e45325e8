//! This device: its identity (enrolment, keys, certificates, state on disk), its controller
//! session, its links, and the node that owns the tasks of all these. It knows no command and no
//! control socket.

pub mod node;

pub mod link;

pub mod controller_session;

pub mod enrol;

pub mod right;

mod certificate;

pub mod state;

pub mod status;
