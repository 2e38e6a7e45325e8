//! `admin api-token`: tokens with which a person's programs call the controller's API. Decides how
//! they are shown; the controller decides what they may do.

use clap::{Args, Subcommand};
use overlan::program::status::age;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    ApiTokenRequest, ApiTokenResponse, ApiTokenSummary, ParseRightError, Permission, path,
};
use overlan_transport::clock::wall;

use super::{List, ListArgs, end, list, path_part, versioned};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, duration, output};

#[derive(Debug, Subcommand)]
pub(crate) enum ApiTokenCommand {
    /// Create a token and print it; it is shown only once
    #[command(after_help = CREATE_EXAMPLES)]
    Create(ApiTokenArgs),
    /// List your tokens and their last use, without their secrets
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Revoke one of your tokens
    #[command(after_help = REVOKE_EXAMPLES, aliases = ["remove", "delete"])]
    Revoke(ApiTokenRevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ApiTokenArgs {
    /// A name for people, such as the program that will use it
    name: String,
    /// Permission that it has, such as devices:read; repeat it, or separate them by commas
    #[arg(
        long = "scope",
        required = true,
        value_delimiter = ',',
        value_parser = scope,
        value_name = "RESOURCE:VERB"
    )]
    scopes: Vec<Permission>,
    /// Time for which it is valid: seconds, or with a unit, such as 12h, 7d [default: 90d]
    #[arg(long, value_parser = duration::within::<u64>(duration::SOME), value_name = "TIME")]
    expires: Option<u64>,
    /// Print one JSON document, the token included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  overlan admin api-token create inventory --scope devices:read,relays:read > token.txt
  overlan admin api-token create deploy --scope auth-keys:write --expires 30d > token.txt

Any admin command uses it:
  OVERLAN_SERVER=\"$JOIN\" overlan admin device list --api-token-file token.txt
It never has more rights than you have.";

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin api-token list
  overlan admin api-token list --json | jq -r '.api_tokens[] | select(.last_used == null) | .id'";

#[derive(Debug, Args)]
pub(crate) struct ApiTokenRevokeArgs {
    /// The token's id, as `overlan admin api-token list` shows it
    id: String,
    #[command(flatten)]
    state: StateArgs,
}

const REVOKE_EXAMPLES: &str = "\
Examples:
  overlan admin api-token list                       shows the ids
  overlan admin api-token revoke 3483819da319";

fn scope(text: &str) -> Result<Permission, ParseRightError> {
    text.parse()
}

/// `overlan admin api-token …`.
pub(super) async fn run(command: ApiTokenCommand) -> Result<(), Failure> {
    match command {
        ApiTokenCommand::Create(args) => create(args).await,
        ApiTokenCommand::List(args) => {
            let now = wall();
            let row = |token: &ApiTokenSummary| [row(token, now)];
            list(&args, path::API_TOKENS, TOKENS, row).await
        }
        ApiTokenCommand::Revoke(args) => revoke(&args).await,
    }
}

async fn create(args: ApiTokenArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let request = ApiTokenRequest {
        name: args.name,
        scopes: args.scopes.iter().map(ToString::to_string).collect(),
        expires_in_secs: args.expires,
    };
    let made: ApiTokenResponse = connection
        .post(path::API_TOKENS, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("api_token", &made));
    }
    // The token alone is the answer, so that it can go straight into a file.
    output::note(&format!(
        "API token {} ({}) for {}, ends {}. It is shown only once.",
        made.summary.id,
        made.summary.name,
        made.summary.scopes.join(", "),
        end(made.summary.expires, wall()),
    ));
    output::answer(made.token.reveal())
}

async fn revoke(args: &ApiTokenRevokeArgs) -> Result<(), Failure> {
    let id = path_part("API token", &args.id)?;
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let path = format!("{}/{id}", path::API_TOKENS);
    let revoked = connection.delete(&path, api::WITHIN).await;
    revoked.map_err(api::as_person)?;
    output::note(&format!("API token {id} is revoked."));
    Ok(())
}

const TOKENS: List<5> = List {
    name: "api_tokens",
    head: ["TOKEN", "NAME", "SCOPES", "ENDS", "LAST USED"],
    if_empty: "No API token. `overlan admin api-token create NAME --scope devices:read` makes one.",
};

fn row(token: &ApiTokenSummary, now: UnixTime) -> [String; 5] {
    let used = match token.last_used {
        Some(at) => {
            let ago = age(now.since(at).as_secs());
            format!("{ago} ago from {}", token.last_source)
        }
        None => "never".to_owned(),
    };
    [
        token.id.clone(),
        token.name.clone(),
        token.scopes.join(","),
        end(token.expires, now),
        used,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_and_from_where_it_was_used() {
        let now = UnixTime::from_secs(100_000);
        let mut token = ApiTokenSummary {
            id: "0011aabbccdd".to_owned(),
            name: "inventory".to_owned(),
            scopes: vec!["devices:read".to_owned(), "dns:read".to_owned()],
            created: UnixTime::from_secs(1_000),
            expires: UnixTime::from_secs(107_200),
            last_used: None,
            last_source: String::new(),
        };
        let shown = row(&token, now);
        let expected = [
            "0011aabbccdd",
            "inventory",
            "devices:read,dns:read",
            "in 2 h",
            "never",
        ];
        assert_eq!(shown, expected);
        token.last_used = Some(UnixTime::from_secs(99_880));
        token.last_source = "192.0.2.1".to_owned();
        assert_eq!(row(&token, now)[4], "2 min ago from 192.0.2.1");
    }

    #[test]
    fn a_scope_that_does_not_exist_is_told_the_choice() {
        assert_eq!(scope("devices:read"), Ok(Permission::DevicesRead));
        let error = scope("devices:all").unwrap_err().to_string();
        assert!(error.contains("devices:read, devices:write"), "{error}");
    }
}
