//! A login that this program asks for and a person grants elsewhere. Decides how often it asks, and
//! keeps the session that it gets; a request of a program that is stopped is taken back.

use std::time::Duration;

use overlan::program::state::{Login, StateDir};
use overlan_protocol::api::{
    JoinString, LOGIN_WORDS_MAX, LoginBeginRequest, LoginBegun, LoginPolled, LoginResponse,
    LoginSecret, path,
};
use tokio::time::{Instant, sleep_until};

use crate::commands::exit::{Code, Failure};
use crate::commands::stop::Signals;
use crate::commands::{api, output};

/// Logs in by a code that a person enters on a machine where they are logged in.
pub(super) async fn log_in_by_code(
    state: &StateDir,
    join: &JoinString,
) -> Result<LoginResponse, Failure> {
    let mut connection = api::open(join).await?;
    let begun: LoginBegun = connection
        .post(path::LOGIN_BEGIN, &asker(), api::WITHIN)
        .await?;
    drop(connection);
    output::note(&format!(
        "Where you are logged in to this controller, run this within ten minutes:\n  \
         overlan session approve {}\nIt shows which machine asks. Ctrl-C takes the request back.",
        begun.code
    ));
    wait(state, join, begun).await
}

/// Says who asks for a login.
pub(super) fn asker() -> LoginBeginRequest {
    let name = rustix::system::uname();
    let host = name.nodename().to_string_lossy();
    let plain = host.chars().filter(|c| !c.is_control());
    let host: String = plain.take(LOGIN_WORDS_MAX).collect();
    LoginBeginRequest {
        program: "overlan login".to_owned(),
        host: match host.trim() {
            "" => "a machine without a name".to_owned(),
            name => name.to_owned(),
        },
    }
}

/// Waits until somebody has decided, and keeps the session.
pub(super) async fn wait(
    state: &StateDir,
    join: &JoinString,
    begun: LoginBegun,
) -> Result<LoginResponse, Failure> {
    let asked = LoginSecret {
        secret: begun.secret,
    };
    let mut signals = Signals::listen()?;
    tokio::select! {
        decided = decision(state, join, &asked, begun.interval_secs) => decided,
        () = signals.next() => {
            let mut connection = api::open(join).await?;
            let _: serde_json::Value = connection
                .post(path::LOGIN_CANCEL, &asked, api::WITHIN)
                .await?;
            Err(Failure::new(Code::Other, "interrupted; the request for a login is taken back"))
        }
    }
}

async fn decision(
    state: &StateDir,
    join: &JoinString,
    asked: &LoginSecret,
    mut interval: u32,
) -> Result<LoginResponse, Failure> {
    loop {
        sleep_until(Instant::now() + Duration::from_secs(interval.into())).await;
        let mut connection = api::open(join).await?;
        let polled: LoginPolled = connection
            .post(path::LOGIN_POLL, asked, api::WITHIN)
            .await?;
        match polled {
            LoginPolled::Pending { interval_secs } | LoginPolled::SlowDown { interval_secs } => {
                interval = interval_secs;
            }
            LoginPolled::Denied { reason } => {
                return Err(Failure::new(Code::Denied, reason));
            }
            LoginPolled::Expired => {
                let text = "nobody granted the login in time";
                return Err(Failure::new(Code::TimedOut, text).next("Begin again."));
            }
            LoginPolled::Approved { login } => {
                state.save_login(&Login {
                    join: join.clone(),
                    login: login.clone(),
                })?;
                return Ok(login);
            }
        }
    }
}
