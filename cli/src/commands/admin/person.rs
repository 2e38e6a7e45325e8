//! `admin person`: the people of the organisation. Decides how they are shown and how a
//! removal is described; the controller decides who may do what.

use clap::{Args, Subcommand};
use overlan::program::status::age;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    DevicesOfPerson, OneTimeLink, PasswordResetResponse, PersonRemoved, PersonSummary,
    RemovePersonRequest, Role, RoleRequest, RoleSet, path,
};
use overlan_transport::clock::wall;
use overlan_transport::https::Connection;

use super::{List, ListArgs, arrived, end, versioned};
use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum PersonCommand {
    /// List the people of the organisation
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one person
    #[command(after_help = SHOW_EXAMPLES)]
    Show(PersonShowArgs),
    /// Give a person another role; it holds at once
    #[command(after_help = ROLE_EXAMPLES)]
    SetRole(RoleArgs),
    /// Remove a person: logins, API tokens and keys end at once, and the devices by choice
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
    /// Print a link by which a person sets a new password; it works once, for a day
    #[command(after_help = RESET_EXAMPLES)]
    ResetPassword(ResetPasswordArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PersonShowArgs {
    /// The person's email
    email: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// The person's email
    email: String,
    /// owner, admin, auditor (reads everything, changes nothing) or member
    role: Role,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The person's email
    email: String,
    /// The fate of the devices that the person enrolled: keep, remove, or hand-to EMAIL
    #[arg(
        long,
        num_args = 1..=2,
        value_names = ["FATE", "EMAIL"],
        default_value = "keep"
    )]
    devices: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResetPasswordArgs {
    /// The person's email
    email: String,
    /// Print one JSON document, the link included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const RESET_EXAMPLES: &str = "\
Examples:
  overlan admin person reset-password anna@example.com > link.txt
  The person:
    overlan password --reset-file link.txt";

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin person list
  overlan admin person list --json | jq -r '.people[] | select(.role == \"owner\") | .email'";

const SHOW_EXAMPLES: &str = "\
Examples:
  overlan admin person show anna@example.com
  overlan session list --person anna@example.com     the logins";

const ROLE_EXAMPLES: &str = "\
Examples:
  overlan admin person set-role anna@example.com admin
  overlan admin person set-role ben@example.com auditor     reads everything, changes nothing";

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan admin person remove anna@example.com
  overlan admin person remove anna@example.com --devices remove
  overlan admin person remove anna@example.com --devices hand-to ben@example.com";

/// `overlan admin person …`, but the list.
pub(super) async fn run(command: PersonCommand) -> Result<(), Failure> {
    match command {
        // It is a list like the others.
        PersonCommand::List(_) => Ok(()),
        PersonCommand::Show(args) => show(&args).await,
        PersonCommand::SetRole(args) => set_role(&args).await,
        PersonCommand::Remove(args) => remove(&args).await,
        PersonCommand::ResetPassword(args) => reset_password(&args).await,
    }
}

async fn show(args: &PersonShowArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let person = find(&mut connection, &args.email).await?;
    if args.json {
        return output::json(&versioned("person", &person));
    }
    output::answer(&described(&person, wall()))
}

fn described(person: &PersonSummary, now: UnixTime) -> String {
    let ago = |at: UnixTime| format!("{} ago", age(now.since(at).as_secs()));
    let seen = person
        .last_seen
        .map_or_else(|| "not logged in".to_owned(), ago);
    format!(
        "email:      {}\nrole:       {}\njoined:     {}\nlast seen:  {seen}\nlogins:     {}\n\
         devices:    {}\nauth keys:  {}",
        person.email,
        person.role,
        ago(person.joined),
        person.logins,
        person.devices,
        person.auth_keys,
    )
}

async fn set_role(args: &RoleArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let person = find(&mut connection, &args.email).await?;
    let path = format!("{}/{}/role", path::PEOPLE, person.id);
    let request = RoleRequest { role: args.role };
    let set: RoleSet = connection
        .post(&path, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&match person.role == args.role {
        true => format!("{} is {} already.", person.email, args.role),
        false => format!(
            "{} is {} now, and was {}{}.",
            person.email,
            args.role,
            person.role,
            arrived(set.applied.as_ref())
        ),
    });
    Ok(())
}

async fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let fate = fate(&args.devices)?;
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let person = find(&mut connection, &args.email).await?;
    let devices = match &fate {
        Fate::Keep => DevicesOfPerson::Keep,
        Fate::Remove => DevicesOfPerson::Remove,
        Fate::HandTo(heir) => DevicesOfPerson::HandTo(find(&mut connection, heir).await?.id),
    };
    let path = format!("{}/{}/remove", path::PEOPLE, person.id);
    let removed: PersonRemoved = connection
        .post(&path, &RemovePersonRequest { devices }, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("removed", &removed));
    }
    output::answer(&sentences(&removed, &fate))
}

async fn reset_password(args: &ResetPasswordArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let join = api::controller(&state)?;
    let mut connection = api::open_as_person(&state).await?;
    let person = find(&mut connection, &args.email).await?;
    let path = format!("{}/{}/password-reset", path::PEOPLE, person.id);
    let made: PasswordResetResponse = connection
        .post(&path, &serde_json::json!({}), api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let token = made.token;
    let link = OneTimeLink { join, token }.text();
    if args.json {
        return output::json(&serde_json::json!({
            "schema_version": 1,
            "email": person.email,
            "expires": made.expires,
            "link": link,
        }));
    }
    output::note(&format!(
        "Way to a new password for {}: works once, ends {}. It is shown only once; send it to \
         nobody else. Next, there: overlan password --reset-file FILE",
        person.email,
        end(made.expires, wall()),
    ));
    output::answer(link.reveal())
}

/// [`DevicesOfPerson`] as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Remove,
    /// The email of the person who gets the devices.
    HandTo(String),
}

fn fate(words: &[String]) -> Result<Fate, Failure> {
    match words {
        [word] if word == "keep" => Ok(Fate::Keep),
        [word] if word == "remove" => Ok(Fate::Remove),
        [word, heir] if word == "hand-to" => Ok(Fate::HandTo(heir.clone())),
        _ => Err(Failure::usage(format!(
            "--devices {:?} is not a fate of devices",
            words.join(" ")
        ))
        .next("Give keep, remove, or hand-to EMAIL.")),
    }
}

/// Returns the sentences about a removal: what ended, what stays, and what is still connected.
pub(super) fn sentences(removed: &PersonRemoved, fate: &Fate) -> String {
    let mut lines = vec![format!(
        "Removed {}{}: {} ended.",
        removed.email,
        arrived(removed.applied.as_ref()),
        joined(&[
            counted(removed.logins, "login", "logins"),
            counted(removed.api_tokens, "API token", "API tokens"),
            counted(removed.auth_keys.len() as u64, "auth key", "auth keys"),
            counted(
                removed.relay_tokens.len() as u64,
                "relay token",
                "relay tokens"
            ),
            counted(
                removed.invitations.len() as u64,
                "invitation",
                "invitations"
            ),
        ])
    )];
    let mut list = |text: &str, devices: &[String]| {
        if !devices.is_empty() {
            lines.push(format!("{text}: {}", devices.join(", ")));
        }
    };
    list("Devices removed", &removed.devices_removed);
    if let Fate::HandTo(heir) = fate {
        list(
            &format!("Devices handed to {heir}"),
            &removed.devices_handed,
        );
    }
    list("Devices that stay", &removed.devices_kept);
    list(
        "Devices of the person's auth keys, which stay",
        &removed.devices_by_keys,
    );
    list("Still connected", &removed.still_connected);
    if removed.still_connected.is_empty() {
        lines.push("Nothing of it is connected any more.".to_owned());
    }
    if !removed.devices_kept.is_empty() {
        lines.push(format!(
            "Next: `overlan admin device remove --owner {}` removes the devices that stay.",
            removed.email
        ));
    } else if !removed.devices_by_keys.is_empty() {
        lines.push(
            "Next: `overlan admin device remove --owner KEY` removes the devices of a key.".into(),
        );
    }
    lines.join("\n")
}

fn counted(number: u64, one: &str, many: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {many}")),
    }
}

fn joined(parts: &[Option<String>]) -> String {
    let parts: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
    match parts.split_last() {
        None => "nothing else".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) const LIST: List<6> = List {
    name: "people",
    head: ["EMAIL", "ROLE", "LAST SEEN", "DEVICES", "LOGINS", "KEYS"],
    if_empty: "There is nobody.",
};

pub(super) fn row(person: &PersonSummary, now: UnixTime) -> [String; 6] {
    let ago = |at: UnixTime| format!("{} ago", age(now.since(at).as_secs()));
    let you = if person.you { " (you)" } else { "" };
    [
        format!("{}{you}", person.email),
        person.role.to_string(),
        person.last_seen.map_or_else(|| "-".to_owned(), ago),
        person.devices.to_string(),
        person.logins.to_string(),
        person.auth_keys.to_string(),
    ]
}

/// Finds a person by email.
pub(crate) async fn find(
    connection: &mut Connection,
    email: &str,
) -> Result<PersonSummary, Failure> {
    let people: Vec<PersonSummary> = connection
        .get(path::PEOPLE, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let wanted = email.trim();
    let known = people
        .into_iter()
        .find(|person| person.email.eq_ignore_ascii_case(wanted));
    known.ok_or_else(|| {
        Failure::new(
            Code::Other,
            format!("nobody with the email {wanted:?} is in the organisation"),
        )
        .next("`overlan admin person list` shows who is.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed() -> PersonRemoved {
        PersonRemoved {
            email: "anna@example.com".to_owned(),
            logins: 2,
            api_tokens: 0,
            auth_keys: vec!["0011".to_owned()],
            relay_tokens: Vec::new(),
            invitations: Vec::new(),
            devices_removed: Vec::new(),
            devices_handed: Vec::new(),
            devices_kept: Vec::new(),
            devices_by_keys: Vec::new(),
            still_connected: Vec::new(),
            account_deleted: true,
            applied: None,
        }
    }

    #[test]
    fn a_removal_says_what_ended_and_what_is_still_connected() {
        let nothing_left = sentences(&removed(), &Fate::Keep);
        assert!(
            nothing_left.starts_with("Removed anna@example.com: 2 logins and 1 auth key ended.\n")
        );
        assert!(
            nothing_left.contains("Nothing of it is connected"),
            "{nothing_left}"
        );
        let kept = PersonRemoved {
            devices_kept: vec!["laptop.home".to_owned()],
            still_connected: vec!["laptop.home".to_owned()],
            ..removed()
        };
        let kept = sentences(&kept, &Fate::Keep);
        assert!(kept.contains("Still connected: laptop.home"), "{kept}");
        assert!(
            kept.contains("device remove --owner anna@example.com"),
            "{kept}"
        );
        let handed = PersonRemoved {
            devices_handed: vec!["laptop.home".to_owned()],
            ..removed()
        };
        let handed = sentences(&handed, &Fate::HandTo("ben@example.com".to_owned()));
        assert!(
            handed.contains("handed to ben@example.com: laptop.home"),
            "{handed}"
        );
    }

    #[test]
    fn the_fate_of_devices_is_one_of_three() {
        let words = |text: &str| fate(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(words("keep").unwrap(), Fate::Keep);
        assert_eq!(words("remove").unwrap(), Fate::Remove);
        let heir = Fate::HandTo("b@c".to_owned());
        assert_eq!(words("hand-to b@c").unwrap(), heir);
        for wrong in ["hand-to", "keep b@c", "sell"] {
            assert_eq!(words(wrong).unwrap_err().code(), Code::Usage, "{wrong}");
        }
    }
}
