//! `admin identity-provider`: the provider by which people of the organisation log in. Decides how
//! it is given and shown; the controller decides what it means.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    IdentityProviderRequest, IdentityProviderState, IdentityProviderTest, path,
};
use overlan_transport::clock::wall;

use super::{columns, end, versioned};
use crate::commands::exit::Failure;
use crate::commands::secret::SecretSource;
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityProviderCommand {
    /// Let people log in by an identity provider (OpenID Connect), in place of the one before
    #[command(after_help = SET_EXAMPLES)]
    Set(Box<SetProviderArgs>),
    /// Show the provider, and the redirect URI that it must know
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowProviderArgs),
    /// Ask the provider for its documents, and say what a login would meet
    #[command(after_help = TEST_EXAMPLES)]
    Test(ShowProviderArgs),
    /// Remove the provider; nobody logs in by it any more, and its groups are empty
    #[command(alias = "delete", after_help = REMOVE_EXAMPLES)]
    Remove(RemoveProviderArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetProviderArgs {
    /// Address of the provider, exactly as claim iss of its tokens has it
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Id under which the provider knows this controller
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// File with the secret of that client; - is a line of standard input. Not needed again for
    /// the same issuer and client
    #[arg(long, value_name = "PATH")]
    client_secret_file: Option<SecretSource>,
    /// Domain of emails whose holders become members at their first login; repeat for several
    #[arg(
        long = "domain",
        value_name = "DOMAIN",
        required_unless_present = "invited_only"
    )]
    domains: Vec<String>,
    /// Let in only people who are in the organisation already, or have an open invitation
    #[arg(long, conflicts_with = "domains")]
    invited_only: bool,
    /// Claim that has the groups of a person, for idp:NAME in a policy [default: groups]
    #[arg(long, value_name = "CLAIM")]
    groups_claim: Option<String>,
    /// File with the CA of the provider's server, as PEM, if it is not a public one
    #[arg(long, value_name = "PATH")]
    issuer_ca: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowProviderArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveProviderArgs {
    #[command(flatten)]
    state: StateArgs,
}

const SET_EXAMPLES: &str = "\
Examples:
  overlan admin identity-provider set --issuer https://id.example.com --client-id overlan \\
      --client-secret-file secret.txt --domain example.com
  pass show overlan/oidc | overlan admin identity-provider set --issuer https://id.example.com \\
      --client-id overlan --client-secret-file - --invited-only

Register the redirect URI that it prints at the provider, exactly as it is.";

const SHOW_EXAMPLES: &str = "\
Examples:
  overlan admin identity-provider show
  overlan admin identity-provider show --json | jq -r .identity_provider.redirect_uri";

const TEST_EXAMPLES: &str = "\
Examples:
  overlan admin identity-provider test && overlan login --sso";

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan admin identity-provider remove

People stay in the organisation. Who came in by the provider has no password until an admin makes a
way to one: overlan admin person reset-password EMAIL";

/// `overlan admin identity-provider …`.
pub(super) async fn run(command: IdentityProviderCommand) -> Result<(), Failure> {
    match command {
        IdentityProviderCommand::Set(args) => set(*args).await,
        IdentityProviderCommand::Show(args) => show(&args).await,
        IdentityProviderCommand::Test(args) => test(&args).await,
        IdentityProviderCommand::Remove(args) => remove(&args).await,
    }
}

async fn set(args: SetProviderArgs) -> Result<(), Failure> {
    let secret = match &args.client_secret_file {
        Some(source) => Some(source.read("client secret")?),
        None => None,
    };
    let request = IdentityProviderRequest {
        issuer: args.issuer,
        client_id: args.client_id,
        client_secret: secret,
        domains: args.domains,
        groups_claim: args.groups_claim.unwrap_or_default(),
        issuer_ca: args.issuer_ca.as_deref().map(read).transpose()?,
    };
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let set: IdentityProviderState = connection
        .post(path::IDENTITY_PROVIDER, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("identity_provider", &set));
    }
    output::note(
        "The identity provider is set. Register this redirect URI there, then: overlan admin \
         identity-provider test",
    );
    output::answer(&set.redirect_uri)
}

async fn show(args: &ShowProviderArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let known: IdentityProviderState = connection
        .get(path::IDENTITY_PROVIDER, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("identity_provider", &known));
    }
    output::answer(&described(&known, wall()))
}

fn described(known: &IdentityProviderState, now: UnixTime) -> String {
    let mut rows = vec![["redirect URI".to_owned(), known.redirect_uri.clone()]];
    let Some(provider) = &known.provider else {
        rows.push(["issuer".to_owned(), "none is set".to_owned()]);
        return columns(&rows);
    };
    let first_login = match provider.domains.as_slice() {
        [] => "only people who are here or invited".to_owned(),
        domains => format!("makes members of {}", domains.join(", ")),
    };
    let server = match provider.has_issuer_ca {
        true => "known by a CA of its own",
        false => "known by a public CA",
    };
    for (name, value) in [
        ("issuer", provider.issuer.clone()),
        ("client id", provider.client_id.clone()),
        ("first login", first_login),
        ("groups claim", provider.groups_claim.clone()),
        ("server", server.to_owned()),
        ("people", provider.people.to_string()),
        ("set", end(provider.changed, now)),
    ] {
        rows.push([name.to_owned(), value]);
    }
    columns(&rows)
}

async fn test(args: &ShowProviderArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let path = format!("{}/test", path::IDENTITY_PROVIDER);
    let found: IdentityProviderTest = connection
        .post(&path, &serde_json::json!({}), api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("identity_provider_test", &found));
    }
    let mut rows = vec![
        ["logins at".to_owned(), found.authorization_endpoint],
        ["tokens from".to_owned(), found.token_endpoint],
        ["scopes".to_owned(), found.scopes.join(" ")],
    ];
    let warnings = found.warnings.into_iter();
    rows.extend(warnings.map(|warning| ["warning".to_owned(), warning]));
    output::answer(&columns(&rows))
}

async fn remove(args: &RemoveProviderArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let removed = connection
        .delete(path::IDENTITY_PROVIDER, api::WITHIN)
        .await;
    removed.map_err(api::as_person)?;
    output::note("The identity provider is removed. People stay, and log in by their passwords.");
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))
}
