//! The errors of each operation: one variant for each thing that the caller does differently.

/// The reason for which a connection was not established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The remote answered that nobody listens on that port, or refused us.
    #[error("connection refused")]
    Refused,
    /// Nothing came back within [`Config::connect_timeout`](crate::Config::connect_timeout).
    #[error("connection timed out")]
    TimedOut,
    /// The remote is gone, or answered that it cannot be reached.
    #[error("remote unreachable")]
    Unreachable,
    /// The stack has no address of the remote's family, or the remote address is not one host's.
    #[error("no local address for that remote")]
    NoAddress,
    /// [`Config::max_flows`](crate::Config::max_flows) connections exist already, or their
    /// rings use nearly all of the budget of [`Config::rings`](crate::Config::rings).
    #[error("too many connections")]
    TooManyFlows,
    /// Every local port is in use towards that remote address and port.
    #[error("no free local port for that remote")]
    PortsExhausted,
}

/// The reason for which a port cannot be listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// The port has a listener already.
    #[error("port is in use")]
    InUse,
    /// Port 0 names nothing.
    #[error("port 0 cannot be listened on")]
    NoPort,
}

/// The reason for which a UDP port cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Another socket has it.
    #[error("port is in use")]
    InUse,
    /// Every port a socket may choose is in use, or the stack has all the sockets it may have.
    #[error("no free port")]
    PortsExhausted,
}

/// The reason for which an echo request was not sent or not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// The stack has no address of the remote's family.
    #[error("no local address for that remote")]
    NoAddress,
    /// The payload does not fit into one packet.
    #[error("payload does not fit into one packet")]
    TooLarge,
    /// As many echo requests as the stack keeps are waiting for their replies.
    #[error("too many pings are waiting")]
    TooMany,
    /// The remote is gone, or answered that it cannot be reached.
    #[error("remote unreachable")]
    Unreachable,
    /// The owner does not want it any more; see
    /// [`Stack::retain_flows`](crate::Stack::retain_flows).
    #[error("no longer allowed")]
    Forbidden,
}
