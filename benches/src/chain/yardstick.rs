//! The yardstick: the three programs of `hop`, last one first, as each must know where the next
//! listens.

use super::{Entry, LISTENS, Parts, Place};
use crate::hop::write_certificates;
use crate::process::{self, Process};
use crate::trouble::{During, Result, Trouble};

pub(super) fn start(place: &Place<'_>) -> Result<Parts> {
    write_certificates(place.directory)?;
    let mut apart = Vec::new();
    let mut carriers = Vec::new();
    let mut next = None;
    for name in ["exit", "relay", "entry"] {
        let mut command = process::own(name)?;
        command.arg("--certificates").arg(place.directory);
        if let Some(next) = next {
            let link = place.link(next, &mut apart)?;
            command.args(["--next", &link.to_string()]);
        }
        let mut hop = Process::start(name, place.directory, &mut command)?;
        next = Some(hop.line(LISTENS)?.parse().during("address of a hop")?);
        carriers.insert(0, hop);
    }
    let next = next.ok_or_else(|| Trouble::failed("no hop was started"))?;
    Ok(Parts {
        entry: Entry::Socks(next, place.target()?),
        carriers,
        apart,
    })
}
