//! `admin`: commands of a logged-in person for people, devices, networks, keys and relays. Decides
//! how lists are shown; the controller decides what a person may do. What
//! concerns people stands in `person`, `organisation`, `invitation` and `identity_provider`, the
//! deployment has `key`.

mod api_token;
mod auth_key;
mod device;
mod dns;
mod identity_provider;
mod invitation;
mod key;
mod network;
mod organisation;
pub(crate) mod person;
mod policy;
mod relay;
mod route;
mod trust_rule;

use clap::{Args, Subcommand};
pub(crate) use network::parse_label;
use overlan::program::status::{age, columns};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{Applied, RelayTokenRequest, RelayTokenResponse, path};
use overlan_transport::clock::wall;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, output};

pub(super) const EXAMPLES: &str = "\
Examples:
  overlan admin device list
  overlan admin auth-key create > key.txt
  overlan admin route approve gateway 10.1.0.0/16";

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// List people, give them roles, and remove them
    #[command(subcommand, aliases = ["people", "persons"])]
    Person(person::PersonCommand),
    /// Invite people, list and revoke invitations
    #[command(subcommand, alias = "invitations")]
    Invitation(invitation::InvitationCommand),
    /// Let people log in by an identity provider, show, test and remove it
    #[command(subcommand, alias = "sso")]
    IdentityProvider(identity_provider::IdentityProviderCommand),
    /// Show, rename, leave or delete the organisation
    #[command(subcommand)]
    Organisation(organisation::OrganisationCommand),
    /// List, approve and remove devices
    #[command(subcommand, alias = "devices")]
    Device(device::DeviceCommand),
    /// Create, list and revoke keys with which servers and CI jobs enrol
    #[command(subcommand, alias = "auth-keys")]
    AuthKey(auth_key::AuthKeyCommand),
    /// Create, list, test and remove rules by which CI jobs enrol without a key
    #[command(subcommand, alias = "trust-rules")]
    TrustRule(trust_rule::TrustRuleCommand),
    /// Create, list and delete networks, and add devices to them
    #[command(subcommand, alias = "networks")]
    Network(network::AdminNetworkCommand),
    /// Show, check, set and explain the policy of a network
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// List, approve and reject routes that gateways offer
    #[command(subcommand, alias = "routes")]
    Route(route::RouteCommand),
    /// List relays
    #[command(subcommand, alias = "relays")]
    Relay(relay::AdminRelayCommand),
    /// Create, list and revoke tokens with which relays register
    #[command(subcommand, alias = "relay-tokens")]
    RelayToken(RelayTokenCommand),
    /// Show and rotate the keys of the whole deployment
    #[command(subcommand, alias = "keys")]
    Key(key::KeyCommand),
    /// Manage DNS records and private zones of a network
    #[command(subcommand)]
    Dns(dns::AdminDnsCommand),
    /// Create, list and revoke tokens with which your programs call the API
    #[command(subcommand, alias = "api-tokens")]
    ApiToken(api_token::ApiTokenCommand),
}

const LIST_RELAYS: &str = "\
Examples:
  overlan admin relay list
  overlan admin relay list --json | jq '.relays[] | select(.online | not)'";

#[derive(Debug, Subcommand)]
pub(crate) enum RelayTokenCommand {
    /// Create a token for one relay and print it; it is shown only once
    #[command(after_help = RELAY_TOKEN_EXAMPLES)]
    Create(RelayTokenArgs),
    /// List tokens, without their secrets
    #[command(after_help = LIST_RELAY_TOKENS)]
    List(ListArgs),
    /// Revoke a token; a relay that it registered stays
    #[command(after_help = REVOKE_RELAY_TOKEN)]
    Revoke(relay::RevokeTokenArgs),
}

const LIST_RELAY_TOKENS: &str = "\
Examples:
  overlan admin relay-token list
  overlan admin relay-token list --json";

const REVOKE_RELAY_TOKEN: &str = "\
Examples:
  overlan admin relay-token list                       shows the ids
  overlan admin relay-token revoke 0011aabbccdd";

const RELAY_TOKEN_EXAMPLES: &str = "\
Examples:
  overlan admin relay-token create ams-1 > token.txt
  overlan relay serve --server \"$JOIN\" --token-file token.txt --address ams-1.example:443";

#[derive(Debug, Args)]
pub(crate) struct RelayTokenArgs {
    /// Short name that the relay will have, such as ams-1
    name: String,
    /// Print one JSON document, the token included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Show all columns and whole ids; the first 8 digits are enough for every command
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// `overlan admin …`.
pub(crate) async fn run(command: AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::AuthKey(command) => auth_key::run(command).await,
        AdminCommand::Key(command) => key::run(command).await,
        AdminCommand::RelayToken(RelayTokenCommand::Create(args)) => create_token(args).await,
        AdminCommand::RelayToken(RelayTokenCommand::Revoke(args)) => {
            relay::revoke_token(args).await
        }
        AdminCommand::RelayToken(RelayTokenCommand::List(args)) => {
            let now = wall();
            let row = |token: &_| [relay::token_row(token, now)];
            list(&args, path::RELAY_TOKENS, relay::TOKENS, row).await
        }
        AdminCommand::Relay(relay::AdminRelayCommand::Remove(args)) => relay::remove(args).await,
        AdminCommand::Person(person::PersonCommand::List(args)) => {
            let now = wall();
            let row = |known: &_| [person::row(known, now)];
            list(&args, path::PEOPLE, person::LIST, row).await
        }
        AdminCommand::Person(command) => person::run(command).await,
        AdminCommand::Invitation(invitation::InvitationCommand::List(args)) => {
            let now = wall();
            let row = |known: &_| [invitation::row(known, now)];
            list(&args, path::INVITATIONS, invitation::LIST, row).await
        }
        AdminCommand::Invitation(command) => invitation::run(command).await,
        AdminCommand::IdentityProvider(command) => identity_provider::run(command).await,
        AdminCommand::Organisation(command) => organisation::run(command).await,
        AdminCommand::Device(command) => device::run(command).await,
        AdminCommand::Network(network::AdminNetworkCommand::List(args)) => {
            let row = |known: &_| [network::row(known)];
            list(&args, path::NETWORKS, network::LIST, row).await
        }
        AdminCommand::Network(command) => network::run(command).await,
        AdminCommand::Route(route::RouteCommand::List(args)) => {
            let row = |known: &_| [route::row(known)];
            list(&args, path::ROUTES, route::LIST, row).await
        }
        AdminCommand::Route(command) => route::run(command).await,
        AdminCommand::Relay(relay::AdminRelayCommand::List(args)) => {
            let row = |known: &_| [relay::row(known)];
            list(&args, path::RELAYS, relay::LIST, row).await
        }
        AdminCommand::TrustRule(command) => trust_rule::run(command).await,
        AdminCommand::Dns(command) => dns::run(command).await,
        AdminCommand::ApiToken(command) => api_token::run(command).await,
        AdminCommand::Policy(command) => policy::run(command).await,
    }
}

async fn create_token(args: RelayTokenArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let request = RelayTokenRequest { name: args.name };
    let made: RelayTokenResponse = connection
        .post(path::RELAY_TOKENS, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("relay_token", &made));
    }
    output::note(&format!(
        "Token for relay {}: one relay, ends {}. It is shown only once.",
        request.name,
        end(made.expires, wall())
    ));
    output::answer(made.token.reveal())
}

async fn list<T, R, const N: usize>(
    args: &ListArgs,
    path: &str,
    list: List<N>,
    rows_of: impl Fn(&T) -> R,
) -> Result<(), Failure>
where
    T: Serialize + DeserializeOwned,
    R: IntoIterator<Item = [String; N]>,
{
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let items: Vec<T> = connection
        .get(path, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    show(args, &items, &list, rows_of)
}

fn show<T, R, const N: usize>(
    args: &ListArgs,
    items: &[T],
    list: &List<N>,
    rows_of: impl Fn(&T) -> R,
) -> Result<(), Failure>
where
    T: Serialize,
    R: IntoIterator<Item = [String; N]>,
{
    if args.json {
        return output::json(&versioned(list.name, &items));
    }
    if items.is_empty() {
        output::note(list.if_empty);
        return Ok(());
    }
    let mut rows = vec![list.head.map(str::to_owned)];
    rows.extend(items.iter().flat_map(rows_of));
    if !args.verbose {
        shorten_ids(&mut rows);
    }
    output::answer(&columns(&rows))
}

/// The name of a list, and its form.
struct List<const N: usize> {
    /// Its field in the document.
    name: &'static str,
    head: [&'static str; N],
    /// The next step of a person if it is empty.
    if_empty: &'static str,
}

/// Ids of devices, networks and relays stand last, so that they can be as long as they are.
fn shorten_ids<const N: usize>(rows: &mut [[String; N]]) {
    let Some((head, rows)) = rows.split_first_mut() else {
        return;
    };
    if head.last().is_some_and(|head| head == "ID") {
        for id in rows.iter_mut().filter_map(|row| row.last_mut()) {
            id.truncate(SHORT_ID);
        }
    }
}

/// Digits of an id that are shown, and that name a device: 32 bits distinguish some thousand
/// devices.
const SHORT_ID: usize = 8;

/// A name or id that becomes a part of a request's path.
fn path_part<'a>(what: &str, text: &'a str) -> Result<&'a str, Failure> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !text.is_empty() && text.bytes().all(fits) {
        true => Ok(text),
        false => Err(Failure::usage(format!(
            "{text:?} is not the name or id of a {what}"
        ))),
    }
}

fn versioned<T: Serialize>(name: &str, value: &T) -> serde_json::Value {
    serde_json::json!({ "schema_version": 1, name: value })
}

/// Says where a change has arrived, as the rest of a sentence.
fn arrived(applied: Option<&Applied>) -> String {
    applied.map_or_else(String::new, |applied| format!(" ({applied})"))
}

/// Returns the time until `at`, or since.
fn end(at: UnixTime, now: UnixTime) -> String {
    let distance = age(at.abs_diff(now).as_secs());
    match at > now {
        true => format!("in {distance}"),
        false => format!("{distance} ago"),
    }
}

#[cfg(test)]
mod tests;
