//! Variables of the environment that are set and empty. Decides that they count as not set, for
//! every flag of every command: a CI system that knows no value hands over an empty one.

use clap::Command;
use clap::builder::Resettable;
use overlan_protocol::api::JoinString;

use crate::commands::exit::Failure;

/// `command`, whose flags read no variable that is set and empty.
pub(crate) fn without_empty(command: Command) -> Command {
    command
        .mut_args(|argument| {
            let is_empty = argument
                .get_env()
                .and_then(std::env::var_os)
                .is_some_and(|value| value.is_empty());
            match is_empty {
                true => argument.env(Resettable::Reset),
                false => argument,
            }
        })
        .mut_subcommands(without_empty)
}

/// Reads the join string of $OVERLAN_SERVER for commands without the flag --server.
#[expect(
    clippy::disallowed_methods,
    reason = "the flag --server means another thing where it exists"
)]
pub(crate) fn server() -> Result<Option<JoinString>, Failure> {
    let text = std::env::var("OVERLAN_SERVER").unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let server = text.parse();
    server
        .map(Some)
        .map_err(|error| Failure::usage(format!("$OVERLAN_SERVER: {error}")))
}
