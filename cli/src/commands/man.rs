//! `man`: manual pages, made of the same words as the help texts. Decides where they go.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;

use crate::commands::exit::{Code, Failure};
use crate::commands::output;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this existing directory, instead of the main page to
    /// standard output
    #[arg(long, env = "OVERLAN_MAN_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  overlan man | man -l -
  mkdir -p ~/.local/share/man/man1 && overlan man --dir ~/.local/share/man/man1 && man overlan-up";

/// `overlan man`.
pub(crate) fn run(command: Command, args: &ManArgs) -> Result<(), Failure> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return output::answer(&String::from_utf8_lossy(&page));
    };
    clap_mangen::generate_to(command, dir).map_err(|error| {
        let text = format!("cannot write manual pages into {}: {error}", dir.display());
        Failure::new(Code::Other, text).next("The directory must exist: `mkdir -p` makes it.")
    })
}
