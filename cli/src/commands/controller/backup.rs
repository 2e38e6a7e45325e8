//! `controller backup`, `restore` and `rotate`. Decides what is printed for the operator. The
//! controller crate decides what a backup holds.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use overlan_controller::BackupError;

use crate::commands::exit::{Code, Failure};
use crate::commands::output;
use crate::commands::state_dir::default_dir;

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// New file, or a directory for a file with the time in its name; it holds all secrets of the
    /// deployment
    #[arg(value_name = "FILE|DIR")]
    to: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

pub(crate) const BACKUP_EXAMPLES: &str = "\
Examples:
  overlan controller backup /var/backups/overlan          every night
  overlan controller backup overlan.backup --data-dir controller";

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// File that `overlan controller backup` wrote
    file: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

pub(crate) const RESTORE_EXAMPLES: &str = "\
Examples:
  overlan controller restore overlan.backup --data-dir controller-2
  overlan controller serve --data-dir controller-2";

#[derive(Debug, Subcommand)]
pub(crate) enum RotateCommand {
    /// Replace the key that signs tickets. Stop the controller first; no device is cut off
    #[command(after_help = ROTATE_EXAMPLES)]
    TicketKey(DataArgs),
}

const ROTATE_EXAMPLES: &str = "\
Examples:
  overlan controller rotate ticket-key --data-dir /var/lib/overlan-controller";

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Directory for database and keys [default: $XDG_STATE_HOME/overlan-controller or
    /// ~/.local/state/overlan-controller]
    #[arg(long, env = "OVERLAN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataArgs {
    fn dir(self) -> Result<PathBuf, Failure> {
        match self.data_dir {
            Some(path) => Ok(path),
            None => default_dir("overlan-controller", "--data-dir"),
        }
    }
}

pub(crate) async fn write(args: BackupArgs) -> Result<(), Failure> {
    let made = overlan_controller::backup(&args.data.dir()?, &args.to).await?;
    output::note(&format!(
        "Backup written, {} bytes. It holds all secrets of the deployment: keep it safe.",
        made.bytes
    ));
    output::answer(&made.file.display().to_string())
}

pub(crate) async fn restore(args: RestoreArgs) -> Result<(), Failure> {
    let dir = args.data.dir()?;
    let back = overlan_controller::restore(&args.file, &dir).await?;
    output::note(&format!(
        "Restored: {} networks, {} devices, {} relays.\n\
         Next: overlan controller serve --data-dir {}\n\
         Give it the --public-address and --domain that it had before.\n\
         Devices that were enrolled since the backup must enrol again; \
         what was removed since is back: remove it again.\n\
         For a day new devices get addresses after a gap, so that none is given out twice.",
        back.networks,
        back.devices,
        back.relays,
        dir.display()
    ));
    Ok(())
}

pub(crate) fn rotate_ticket_key(args: DataArgs) -> Result<(), Failure> {
    overlan_controller::rotate_ticket_key(&args.dir()?)?;
    output::note(
        "The ticket key is rotated. Start the controller: relays learn the new key at once, it \
         signs after two minutes, and \
         the old one ends a day later.",
    );
    Ok(())
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::NoDeployment { .. } => Self::new(Code::Usage, error)
                .next("Give --data-dir the directory of `overlan controller serve`."),
            BackupError::Exists { .. }
            | BackupError::Io { .. }
            | BackupError::Unusable { .. }
            | BackupError::DataDir { .. } => Self::new(Code::Other, error),
        }
    }
}
