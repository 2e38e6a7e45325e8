//! The list of services that a device serves. Decides which services it may hold; a stored list and
//! that of a running `up` change by the same rules.

use crate::doors::serve::service::{OverlayPort, OverlayTransport, Serve, Target};

/// The reason why the list stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeConflict {
    /// The port has another target.
    #[error(
        "overlay port {port} is already served from {target}; `overlan serve remove {port}` frees \
         it"
    )]
    Taken {
        /// Overlay port.
        port: OverlayPort,
        /// Its present target.
        target: Target,
    },
    /// The list has no service on the port.
    #[error("nothing is served on overlay port {0}; `overlan serve list` shows the services")]
    NotThere(u16),
    /// The list is full.
    #[error("this device serves {SERVES_MAX} ports already, and there cannot be more")]
    Full,
}

/// Adds `serve` to the list. A service that is already there changes nothing.
///
/// # Errors
/// [`ServeConflict::Taken`] if its port has another target, [`ServeConflict::Full`] if there is no
/// room.
pub fn add(serves: &mut Vec<Serve>, serve: &Serve) -> Result<(), ServeConflict> {
    let port = serve.overlay_port();
    match serves.iter().find(|known| known.overlay_port() == port) {
        Some(known) if known == serve => Ok(()),
        Some(known) => Err(ServeConflict::Taken {
            port,
            target: known.target.clone(),
        }),
        None if serves.len() >= SERVES_MAX => Err(ServeConflict::Full),
        None => {
            serves.push(serve.clone());
            serves.sort_by_key(Serve::overlay_port);
            Ok(())
        }
    }
}

/// Removes the services on `port` from the list, or only those of `transport`. Returns their ports.
///
/// # Errors
/// [`ServeConflict::NotThere`] if there are none.
pub fn remove(
    serves: &mut Vec<Serve>,
    port: u16,
    transport: Option<OverlayTransport>,
) -> Result<Vec<OverlayPort>, ServeConflict> {
    let is_meant = |serve: &mut Serve| {
        let known = serve.overlay_port();
        known.port == port && transport.is_none_or(|only| only == known.transport)
    };
    let removed: Vec<Serve> = serves.extract_if(.., is_meant).collect();
    match removed.is_empty() {
        true => Err(ServeConflict::NotThere(port)),
        false => Ok(removed.iter().map(Serve::overlay_port).collect()),
    }
}

/// Most services of one device: each holds a listener and a task.
const SERVES_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
