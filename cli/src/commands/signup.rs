//! `signup`: an account with an organisation of its own on a controller that takes strangers.
//! Decides where credentials come from; the controller decides whether it is open.

use clap::Args;
use overlan::program::state::Login;
use overlan_protocol::api::{JoinString, SetupResponse, SignUpRequest, path};

use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, login, output};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SignUpArgs {
    /// Join string of the controller
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    server: JoinString,
    /// The account, which may exist already; asked for on a terminal
    #[arg(long, env = "OVERLAN_EMAIL")]
    email: Option<String>,
    /// Name of the organisation
    #[arg(long, env = "OVERLAN_ORGANISATION", value_name = "NAME")]
    organisation: String,
    /// Name of the first network, a part of names: host.NETWORK.domain
    #[arg(
        long,
        env = "OVERLAN_NETWORK",
        default_value = "home",
        value_name = "NAME"
    )]
    network: String,
    /// Read the password from standard input instead of asking (or use $OVERLAN_PASSWORD)
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan signup --server 'https://controller.example:8443#sha256:…' --organisation Acme
  overlan up                        this device becomes the first one of its network";

/// `overlan signup`.
pub(crate) async fn run(args: SignUpArgs) -> Result<(), Failure> {
    let state = args.state.create()?;
    let request = SignUpRequest {
        email: login::email(args.email)?,
        password: login::new_password(args.password_stdin)?,
        organisation: args.organisation,
        network: args.network,
    };
    let mut connection = api::open(&args.server).await?;
    let made: SetupResponse = connection
        .post(path::SIGN_UP, &request, api::WITHIN)
        .await?;
    state.save_login(&Login {
        join: args.server,
        login: made.session,
    })?;
    output::note(&format!(
        "Organisation {} with network {} is made, and {} is logged in here.\n\
         Next, this device:    overlan up\n\
         Next, a relay:        overlan admin relay-token create NAME > token.txt\n\
         Next, a colleague:    overlan admin invitation create EMAIL > link.txt",
        request.organisation, request.network, request.email
    ));
    Ok(())
}
