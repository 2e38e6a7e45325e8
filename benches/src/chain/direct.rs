//! No chain at all: the floor, which shows what kernel and the suite's own ends cost.

use super::{Entry, Parts, Place};
use crate::trouble::{Result, Trouble};

pub(super) fn start(place: &Place<'_>) -> Result<Parts> {
    if place.round_trip.is_some() {
        return Err(Trouble::Absent(
            "there is no relay to put far away".to_owned(),
        ));
    }
    Ok(Parts {
        entry: Entry::Direct,
        carriers: Vec::new(),
        apart: Vec::new(),
    })
}
