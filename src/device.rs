//! This device: who it is (enrolment, keys, certificate, state on disk), the session with its
//! controller, its links, and the node that owns the tasks of all these. It knows no command and no
//! control socket.

pub mod node;

pub mod link;

pub mod controller_session;

pub mod enrol;

pub mod right;

mod certificate;

pub mod state;

pub mod status;
