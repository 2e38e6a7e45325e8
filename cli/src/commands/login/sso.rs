//! `login --sso`: a login by the identity provider of an organisation. Decides how a browser comes
//! to the page of the login; the session is polled for as for every login request.

use std::process::{Command, Stdio};

use overlan::program::state::StateDir;
use overlan_protocol::api::{
    JoinString, LoginResponse, SingleSignOnRequest, SingleSignOnResponse, path,
};

use super::request;
use crate::commands::exit::Failure;
use crate::commands::{api, output};

/// Logs in by the browser of a person.
pub(super) async fn log_in(
    state: &StateDir,
    join: &JoinString,
    organisation: Option<String>,
    opens_browser: bool,
) -> Result<LoginResponse, Failure> {
    let mut connection = api::open(join).await?;
    let asked = SingleSignOnRequest {
        asker: request::asker(),
        organisation,
    };
    let begun: SingleSignOnResponse = connection
        .post(path::LOGIN_SSO, &asked, api::WITHIN)
        .await?;
    drop(connection);
    output::note(&format!(
        "Open this page in a browser, and go on only if it shows the code {}:\n  {}",
        begun.request.code, begun.url
    ));
    if opens_browser && !open_browser(&begun.url) {
        output::note("No browser was found here; the page can be opened on any machine.");
    }
    request::wait(state, join, begun.request).await
}

/// Starts the browser of the person, if there is one; it is not waited for.
fn open_browser(url: &str) -> bool {
    let opener = match cfg!(target_os = "macos") {
        true => "open",
        false => "xdg-open",
    };
    let silent = Stdio::null;
    let mut browser = Command::new(opener);
    browser
        .arg(url)
        .stdin(silent())
        .stdout(silent())
        .stderr(silent());
    browser.spawn().is_ok()
}
