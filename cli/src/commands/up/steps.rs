//! The steps that a person at a terminal sees while `up` starts: enrolled, relay, peers. Decides
//! the words; a script sees nothing.

use std::io::{self, IsTerminal};

use overlan::program::state::Device;
use overlan::program::status::{Confirmed, Status, trip};

use super::UpArgs;
use crate::commands::output;

/// The steps, shown or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    shown: bool,
}

impl Steps {
    pub(super) fn of(args: &UpArgs) -> Self {
        let shown = io::stderr().is_terminal() && !args.json && !args.detached;
        Self { shown }
    }

    pub(super) fn enrolled(self, device: &Device) {
        self.say(&format!("enrolled as {}.{}", device.label, device.network));
    }

    pub(super) fn attached(self, status: &Status) {
        self.say(&relay(status));
    }

    pub(super) fn confirmed(self, confirmed: Confirmed) {
        self.say(&peers(confirmed));
    }

    fn say(self, step: &str) {
        if self.shown {
            output::note(step);
        }
    }
}

fn relay(status: &Status) -> String {
    let home = status.relays.iter().find(|relay| relay.home);
    match home.map(|home| (&home.name, home.round_trip_us)) {
        Some((name, Some(us))) => format!("connected to relay {name} ({})", trip(us)),
        Some((name, None)) => format!("connected to relay {name}"),
        None => "connected".to_owned(),
    }
}

fn peers(confirmed: Confirmed) -> String {
    match (confirmed.answered, confirmed.asked) {
        (_, 0) => "no peer is online yet".to_owned(),
        (1, 1) => "1 peer online".to_owned(),
        (answered, asked) if answered == asked => format!("{asked} peers online"),
        (answered, asked) => format!("{answered} of {asked} online peers answered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_what_there_is() {
        let text = |answered, asked| peers(Confirmed { asked, answered });
        assert_eq!(text(0, 0), "no peer is online yet");
        assert_eq!(text(6, 6), "6 peers online");
        assert_eq!(text(4, 6), "4 of 6 online peers answered");
        assert_eq!(relay(&Status::starting()), "connected");
    }
}
