//! Variables of the environment that are set and empty. Decides that they count as not set, for
//! every flag of every command: a CI system that knows no value hands over an empty one.

use clap::Command;
use clap::builder::Resettable;

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
