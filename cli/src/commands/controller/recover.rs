//! `controller recover`: a way back for an owner who is locked out. Decides where the password
//! comes from; who may write the data directory may do it.

use std::path::PathBuf;

use clap::Args;
use overlan_controller::recover_owner;

use crate::commands::exit::Failure;
use crate::commands::state_dir::default_dir;
use crate::commands::{login, output};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecoverArgs {
    /// Directory of the controller [default: $XDG_STATE_HOME/overlan-controller or
    /// ~/.local/state/overlan-controller]
    #[arg(long, aliases = ["state-dir", "state"], env = "OVERLAN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The account, which is made if there is none; asked for on a terminal
    #[arg(long, env = "OVERLAN_EMAIL")]
    email: Option<String>,
    /// Organisation, by name or number, where the controller has several
    #[arg(long, env = "OVERLAN_ORGANISATION", value_name = "NAME")]
    organisation: Option<String>,
    /// Read the new password from standard input instead of asking (or use $OVERLAN_PASSWORD)
    #[arg(long)]
    password_stdin: bool,
}

const EXAMPLES: &str = "\
Examples:
  overlan controller recover --email you@example.com
  overlan controller recover --data-dir /var/lib/overlan --email you@example.com \\
    --organisation Acme";

pub(super) async fn run(args: RecoverArgs) -> Result<(), Failure> {
    let data_dir = match args.data_dir {
        Some(path) => path,
        None => default_dir("overlan-controller", "--data-dir")?,
    };
    let email = login::email(args.email)?;
    let password = login::new_password(args.password_stdin)?;
    let organisation = args.organisation.as_deref();
    let owner = recover_owner(&data_dir, &email, organisation, &password).await?;
    output::note(&format!(
        "{} is an owner of {} now{}. Next: overlan login --email {}",
        owner.email,
        owner.organisation,
        match owner.is_new {
            true => ", by a new account".to_owned(),
            false => format!(
                ", with the new password; its logins have ended ({})",
                owner.ended
            ),
        },
        owner.email
    ));
    Ok(())
}
