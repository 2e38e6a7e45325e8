//! `password` and `session`: a person's own password and logins. Decides where the two passwords
//! come from and how sessions are shown; `decide` lets another machine in.

mod decide;

use clap::{Args, Subcommand};
use overlan::program::status::{age, columns};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    JoinString, PASSWORD_MIN, PasswordRequest, PasswordResetRequest, RESET_PREFIX, SessionSummary,
    SessionsEnded, path,
};
use overlan_protocol::key::Secret;
use overlan_transport::clock::wall;
use overlan_transport::https::Connection;

use crate::commands::admin::person;
use crate::commands::exit::{Code, Failure};
use crate::commands::secret::SecretSource;
use crate::commands::{StateArgs, api, login, output, prompt};

#[derive(Debug, Args)]
#[command(after_help = PASSWORD_EXAMPLES)]
pub(crate) struct PasswordArgs {
    /// Read the old and the new password from standard input, a line each, instead of asking
    #[arg(long)]
    password_stdin: bool,
    /// Set a new password without the old one, by the link of `overlan admin person
    /// reset-password`: file with it; - is a line of standard input
    #[arg(long, value_name = "PATH")]
    reset_file: Option<SecretSource>,
    /// Join string of the controller, for a link that is a token alone
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    server: Option<JoinString>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const PASSWORD_EXAMPLES: &str = "\
Examples:
  overlan password               asks for both; all other logins of the account end
  printf '%s\\n%s\\n' \"$OLD\" \"$NEW\" | overlan password --password-stdin

If the old one is lost, with a link that an admin makes, or on the controller's machine:
  overlan password --reset-file link.txt
  overlan controller reset-password --email you@example.com";

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the logins of this account
    #[command(after_help = LIST_EXAMPLES)]
    List(SessionListArgs),
    /// End a login of this account, or all others
    #[command(after_help = END_EXAMPLES)]
    End(EndArgs),
    /// Log in another machine as yourself, by the code that it shows
    #[command(after_help = decide::EXAMPLES)]
    Approve(decide::GrantArgs),
    /// Refuse the login that a code belongs to
    #[command(after_help = decide::EXAMPLES)]
    Deny(decide::RefuseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SessionListArgs {
    /// List those of another person to this organisation, which an admin may
    #[arg(long, value_name = "EMAIL")]
    person: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const LIST_EXAMPLES: &str = "\
Examples:
  overlan session list
  overlan session list --person anna@example.com
  overlan session list --json";

#[derive(Debug, Args)]
pub(crate) struct EndArgs {
    /// Its id, as `overlan session list` shows it
    #[arg(required_unless_present_any = ["others", "all"], conflicts_with_all = ["others", "all"])]
    id: Option<String>,
    /// End all other logins of this account
    #[arg(long, conflicts_with_all = ["person", "all"])]
    others: bool,
    /// End one or all logins of another person to this organisation, which an admin may
    #[arg(long, value_name = "EMAIL")]
    person: Option<String>,
    /// End all logins of that person
    #[arg(long, requires = "person")]
    all: bool,
    #[command(flatten)]
    state: StateArgs,
}

const END_EXAMPLES: &str = "\
Examples:
  overlan session end 0011aabbccdd
  overlan session end --others                           a laptop was lost
  overlan session end --person anna@example.com --all    a colleague's was";

/// `overlan password`.
pub(crate) async fn password(args: &PasswordArgs) -> Result<(), Failure> {
    if let Some(source) = &args.reset_file {
        return reset(args, source).await;
    }
    let state = args.state.open()?;
    let mut connection = api::open_as_person(&state).await?;
    let (old, new) = passwords(args.password_stdin)?;
    let request = PasswordRequest { old, new };
    let done: SessionsEnded = connection
        .post(path::PASSWORD, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    report(args, done, "other ")
}

/// Sets a new password by a link.
async fn reset(args: &PasswordArgs, source: &SecretSource) -> Result<(), Failure> {
    let state = args.state.open()?;
    let link = source.read("link")?;
    let link = login::invitation::one_time_link(&state, &link, args.server.clone(), RESET_PREFIX)?;
    let request = PasswordResetRequest {
        token: link.token,
        new: login::new_password(args.password_stdin)?,
    };
    let mut connection = api::open(&link.join).await?;
    let done: SessionsEnded = connection
        .post(path::PASSWORD_RESET, &request, api::WITHIN)
        .await?;
    report(args, done, "")
}

fn report(args: &PasswordArgs, done: SessionsEnded, other: &str) -> Result<(), Failure> {
    if args.json {
        return output::json(&serde_json::json!({ "schema_version": 1, "ended": done.ended }));
    }
    output::note(&format!(
        "The password is changed; {} ended.",
        match done.ended {
            1 => format!("one {other}login has"),
            ended => format!("{ended} {other}logins have"),
        }
    ));
    Ok(())
}

fn passwords(from_stdin: bool) -> Result<(Secret, Secret), Failure> {
    let (old, new) = if from_stdin {
        let old = SecretSource::Stdin.read("old password")?;
        (old, SecretSource::Stdin.read("new password")?)
    } else if prompt::can_ask() {
        let old = prompt::ask_hidden("Old password")?;
        let new = prompt::ask_hidden("New password")?;
        if prompt::ask_hidden("New password again")? != new {
            return Err(Failure::usage("the two new passwords differ"));
        }
        (old, new)
    } else {
        let failure = Failure::new(
            Code::NeedsLogin,
            "no passwords are given, and there is no terminal to ask on",
        );
        return Err(
            failure.next("Use --password-stdin: the old one, then the new one, a line each.")
        );
    };
    if new.reveal().chars().count() < PASSWORD_MIN {
        return Err(Failure::usage(format!(
            "the new password is shorter than {PASSWORD_MIN} characters; a few words in a row do \
             well"
        )));
    }
    Ok((old, new))
}

/// `overlan session …`.
pub(crate) async fn run(command: SessionCommand) -> Result<(), Failure> {
    match command {
        SessionCommand::List(args) => list(&args).await,
        SessionCommand::End(args) => end(&args).await,
        SessionCommand::Approve(args) => decide::approve(&args).await,
        SessionCommand::Deny(args) => decide::deny(&args).await,
    }
}

async fn list(args: &SessionListArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let path = sessions_of(&mut connection, args.person.as_deref()).await?;
    let sessions: Vec<SessionSummary> = connection
        .get(&path, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        let document = serde_json::json!({ "schema_version": 1, "sessions": sessions });
        return output::json(&document);
    }
    let now = wall();
    let mut rows =
        vec![["ID", "FROM", "ORGANISATION", "BEGAN", "LAST USED", ""].map(str::to_owned)];
    rows.extend(sessions.iter().map(|session| row(session, now)));
    output::answer(&columns(&rows))
}

/// Returns the path of one's own sessions, or of another person's.
async fn sessions_of(connection: &mut Connection, person: Option<&str>) -> Result<String, Failure> {
    match person {
        None => Ok(path::SESSIONS.to_owned()),
        Some(email) => {
            let person = person::find(connection, email).await?;
            Ok(format!("{}/{}/sessions", path::PEOPLE, person.id))
        }
    }
}

fn row(session: &SessionSummary, now: UnixTime) -> [String; 6] {
    let ago = |at: UnixTime| format!("{} ago", age(now.since(at).as_secs()));
    let source = match session.source.as_str() {
        "" => "unknown",
        source => source,
    };
    [
        session.id.clone(),
        source.to_owned(),
        session.organisation.clone(),
        ago(session.created),
        ago(session.last_used),
        if session.current { "this one" } else { "" }.to_owned(),
    ]
}

async fn end(args: &EndArgs) -> Result<(), Failure> {
    // It becomes a part of the request's path.
    if let Some(id) = &args.id
        && (id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    {
        let text = format!("{id:?} is not the id of a session");
        return Err(Failure::usage(text).next("`overlan session list` shows them."));
    }
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let all = sessions_of(&mut connection, args.person.as_deref()).await?;
    let path = match &args.id {
        Some(id) => format!("{all}/{id}"),
        None => all,
    };
    connection
        .delete(&path, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&match (&args.id, &args.person) {
        (Some(_), _) => "The login is ended.".to_owned(),
        (None, Some(email)) => format!("All logins of {email} to this organisation are ended."),
        (None, None) => "All other logins of this account are ended.".to_owned(),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(8_230);

    #[test]
    fn a_session_says_where_and_when_it_began_and_which_is_this_one() {
        let session = SessionSummary {
            id: "0011aabbccdd".to_owned(),
            current: true,
            created: UnixTime::from_secs(1_000),
            last_used: UnixTime::from_secs(8_000),
            expires: UnixTime::from_secs(600_000),
            source: "192.0.2.1".to_owned(),
            organisation: "Acme".to_owned(),
        };
        let shown = row(&session, NOW);
        assert_eq!(
            shown,
            [
                "0011aabbccdd",
                "192.0.2.1",
                "Acme",
                "2 h ago",
                "3 min ago",
                "this one"
            ]
        );
        let unknown = SessionSummary {
            current: false,
            source: String::new(),
            ..session
        };
        assert_eq!(row(&unknown, NOW)[1], "unknown");
        assert_eq!(row(&unknown, NOW)[5], "");
    }
}
