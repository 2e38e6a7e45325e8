//! No chain at all: the floor, which shows what kernel and the suite's own ends cost.

use super::{Parts, Place};
use crate::socks::Destination;
use crate::trouble::{Result, Trouble};

pub(super) fn start(place: &Place<'_>) -> Result<Parts> {
    if place.round_trip.is_some() {
        return Err(Trouble::Absent(
            "there is no relay to put far away".to_owned(),
        ));
    }
    Ok(Parts {
        entry: None,
        destination: Destination {
            host: place.setting.target.ip().to_string(),
            port: place.setting.target.port(),
        },
        carriers: Vec::new(),
        apart: Vec::new(),
    })
}
