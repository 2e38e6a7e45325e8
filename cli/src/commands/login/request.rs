//! A login that this program asks for and a person grants elsewhere. Decides how often it asks, and
//! keeps the session that it gets.

use std::time::Duration;

use overlan::program::state::{Login, StateDir};
use overlan_protocol::api::{
    JoinString, LOGIN_WORDS_MAX, LoginBeginRequest, LoginBegun, LoginPolled, LoginResponse,
    LoginSecret, path,
};
use tokio::time::{Instant, sleep_until};

use crate::commands::api;
use crate::commands::exit::{Code, Failure};

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
    let mut interval = begun.interval_secs;
    loop {
        sleep_until(Instant::now() + Duration::from_secs(interval.into())).await;
        let mut connection = api::open(join).await?;
        let polled: LoginPolled = connection
            .post(path::LOGIN_POLL, &asked, api::WITHIN)
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
