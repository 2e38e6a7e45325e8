//! `session approve` and `session deny`: a login that another machine asks for by a code. Decides
//! what a person has to see before it is granted.

use clap::Args;
use overlan::program::status::age;
use overlan_protocol::api::{LoginAsked, LoginCode, UserCode, path};
use overlan_transport::clock::wall;

use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, output, prompt};

#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// The code that the other machine shows
    #[arg(value_name = "CODE")]
    code: UserCode,
    /// Do not ask back
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RefuseArgs {
    /// The code that the other machine shows
    #[arg(value_name = "CODE")]
    code: UserCode,
    #[command(flatten)]
    state: StateArgs,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  overlan login --device-code              on the machine without a browser; it shows the code
  overlan session approve WDJB-MJHT        where you are logged in
  overlan session deny WDJB-MJHT           nobody of you began it";

/// `overlan session approve`.
pub(super) async fn approve(args: &GrantArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let mut connection = api::open_as_person(&state).await?;
    let code = LoginCode {
        code: args.code.to_string(),
    };
    let asked: LoginAsked = connection
        .post(path::LOGIN_LOOK, &code, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let who = state.load_login()?.map(|login| login.login);
    let who = who.map_or_else(String::new, |login| {
        format!(" as {} ({})", login.email, login.organisation)
    });
    output::note(&format!("{} would be logged in{who}.", words(&asked)));
    if !args.yes {
        if !prompt::can_ask() {
            let text = "a login for another machine is granted only by a person who has seen it";
            return Err(Failure::usage(text).next("If you began it, give --yes."));
        }
        let answer = prompt::ask("Did you begin it yourself, and does it show this code? yes/no")?;
        if answer.to_lowercase() != "yes" {
            let text = "nothing is granted";
            let next = format!("`overlan session deny {}` refuses it.", asked.code);
            return Err(Failure::new(Code::Other, text).next(next));
        }
    }
    let granted: LoginAsked = connection
        .post(path::LOGIN_APPROVE, &code, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!(
        "Granted: {} is logged in within seconds.",
        granted.host
    ));
    Ok(())
}

/// `overlan session deny`.
pub(super) async fn deny(args: &RefuseArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let code = LoginCode {
        code: args.code.to_string(),
    };
    let denied: LoginAsked = connection
        .post(path::LOGIN_DENY, &code, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!("Refused: {}.", words(&denied)));
    Ok(())
}

fn words(asked: &LoginAsked) -> String {
    format!(
        "{:?} on {:?} at {}, {} ago",
        asked.program,
        asked.host,
        asked.source,
        age(wall().since(asked.asked).as_secs())
    )
}
