//! `login --invitation…`: accepts an invitation, by the password of an account or by a new one.
//! Decides where the link comes from; the controller decides whether it is open.

use overlan::program::state::{Login, StateDir};
use overlan_protocol::api::{
    INVITATION_PREFIX, InvitationAcceptRequest, InvitationInfo, InvitationLookRequest, JoinString,
    LoginResponse, OneTimeLink, ProblemKind, path,
};
use overlan_protocol::key::Secret;

use super::{TRIES, asks_for_password, known_server, new_password, password};
use crate::commands::exit::{Code, Failure};
use crate::commands::secret::{self, SecretSource};
use crate::commands::{api, output, prompt};

/// Returns the link of an invitation that is given: by the file, by the environment, or, if `asked`
/// says so, at the terminal.
pub(super) fn given(file: Option<&SecretSource>, asked: bool) -> Result<Option<Secret>, Failure> {
    match file {
        Some(source) => Ok(Some(source.read(LINK)?)),
        None if asked && prompt::can_ask() => {
            Ok(Some(prompt::ask_hidden("Link of the invitation")?))
        }
        None if asked => Err(Failure::usage("there is no terminal to ask on")
            .next("Give --invitation-file or $OVERLAN_INVITATION.")),
        None => Ok(secret::from_environment(secret::Variable::Invitation)),
    }
}

/// The word for it in errors.
const LINK: &str = "link of the invitation";

/// Accepts an invitation, and keeps the session that it opens.
pub(super) async fn accept(
    state: &StateDir,
    link: &Secret,
    server: Option<JoinString>,
    from_stdin: bool,
) -> Result<LoginResponse, Failure> {
    let OneTimeLink { join, token } = one_time_link(state, link, server, INVITATION_PREFIX)?;
    let mut connection = api::open(&join).await?;
    let request = InvitationLookRequest { token };
    let invitation: InvitationInfo = connection
        .post(path::INVITATION_LOOK, &request, api::WITHIN)
        .await?;
    output::note(&format!(
        "Invitation of {} into {} as {}.",
        invitation.email, invitation.organisation, invitation.role
    ));
    let token = request.token;
    let mut tries = match asks_for_password(from_stdin) {
        true => TRIES,
        false => 1,
    };
    let login: LoginResponse = loop {
        let password = match invitation.account {
            true => password(from_stdin)?,
            false => new_password(from_stdin)?,
        };
        let token = token.clone();
        let request = InvitationAcceptRequest { token, password };
        tries -= 1;
        let accepted = connection.post(path::INVITATION_ACCEPT, &request, api::WITHIN);
        match accepted.await {
            Err(error) if tries > 0 && error.problem() == Some(ProblemKind::WrongPassword) => {
                output::note(&format!("{error}. Try again, or end by Ctrl-C."));
            }
            done => break done?,
        }
    };
    state.save_login(&Login {
        join,
        login: login.clone(),
    })?;
    Ok(login)
}

/// Reads a link; a token alone is for the given or known controller.
pub(crate) fn one_time_link(
    state: &StateDir,
    text: &Secret,
    server: Option<JoinString>,
    prefix: &str,
) -> Result<OneTimeLink, Failure> {
    let link = match text.reveal().starts_with(prefix) {
        true => OneTimeLink {
            join: match server {
                Some(join) => join,
                None => known_server(state)?,
            },
            token: text.clone(),
        },
        false => OneTimeLink::parse(text).map_err(|error| Failure::new(Code::Usage, error))?,
    };
    match link.token.reveal().starts_with(prefix) {
        true => Ok(link),
        false => Err(Failure::usage("the link is for another purpose").next(
            "`overlan login --invitation-file` takes invitations, `overlan password \
                   --reset-file` takes new passwords.",
        )),
    }
}
