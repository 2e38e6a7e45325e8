//! `ca`: the CA that vouches for the names of devices, for programs that are to trust it.
//! Decides nothing.

use clap::Args;
use overlan_protocol::api::{NamesCaResponse, path};

use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CaArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan ca > names-ca.pem
  curl --cacert names-ca.pem -x socks5h://127.0.0.1:1080 https://web.home.overlan.internal/
  SSL_CERT_FILE=names-ca.pem overlan exec -- PROGRAM

It is asked of the controller, by the enrolled device or the login of this state directory. It
vouches for names below the deployment's domain only.";

/// `overlan ca`.
pub(crate) async fn run(args: CaArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let join = match state.load_device()? {
        Some(device) => device.join,
        None => {
            let session = state.load_login()?;
            session.map(|session| session.join).ok_or_else(|| {
                Failure::new(Code::NeedsLogin, "this device is not enrolled yet")
                    .next("The first `overlan up` enrols it; `overlan login` works, too.")
            })?
        }
    };
    let mut connection = api::open(&join).await?;
    let ca: NamesCaResponse = connection.get(path::NAMES_CA, api::WITHIN).await?;
    match args.json {
        true => output::json(&serde_json::json!({
            "schema_version": 1,
            "domain": ca.domain,
            "certificate": ca.certificate,
        })),
        false => output::answer(ca.certificate.trim_end()),
    }
}
