//! `admin auth-key`: keys with which servers and CI jobs enrol. Decides how they are shown; the
//! controller decides what a key allows.

use clap::{Args, Subcommand, ValueEnum};
use overlan::program::status::age;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    AuthKeyRequest, AuthKeyResponse, AuthKeySummary, EPHEMERAL_MAX_SECS, EPHEMERAL_MIN_SECS,
    NamePolicy, path,
};
use overlan_protocol::source_range::SourceRange;
use overlan_protocol::tag::Tag;
use overlan_transport::clock::wall;

use super::{List, ListArgs, device, end, list, versioned};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, duration, output};

#[derive(Debug, Subcommand)]
pub(crate) enum AuthKeyCommand {
    /// Create a key and print it; it is shown only once
    Create(CreateArgs),
    /// List keys, without their secrets
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Revoke a key; devices that it enrolled stay
    #[command(after_help = REVOKE_EXAMPLES, aliases = ["remove", "delete"])]
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
    /// Network that devices join by it; repeat it, or separate names by commas, for several
    /// [default: the organisation's default network]
    #[arg(long = "network", value_delimiter = ',', value_name = "NAME")]
    networks: Vec<String>,
    /// Let it enrol more than one device
    #[arg(long)]
    reusable: bool,
    /// Let it enrol this many devices
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_uses: Option<u32>,
    /// Addresses from which it works, such as 192.0.2.0/24; repeat it, or separate ranges by
    /// commas, for several [default: everywhere]
    #[arg(long = "from", value_delimiter = ',', value_name = "RANGE")]
    sources: Vec<SourceRange>,
    /// Remove its devices some minutes after they go offline
    #[arg(long)]
    ephemeral: bool,
    /// Remove its devices when they were offline for this time, such as 1h; implies --ephemeral
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration::within::<u64>(EPHEMERAL_MIN_SECS..=EPHEMERAL_MAX_SECS)
    )]
    ephemeral_for: Option<u64>,
    /// Require approval of each of its devices by an admin: `overlan admin device approve`
    #[arg(long)]
    approval: bool,
    /// Time for which it is valid: seconds, or with a unit, such as 15m, 12h, 7d [default: 1d]
    #[arg(long, value_parser = duration::within::<u64>(duration::SOME), value_name = "TIME")]
    expires: Option<u64>,
    /// Action if a device, a DNS record or a gateway host has the name already
    #[arg(long, value_enum, default_value = "suffix")]
    on_name_taken: OnNameTaken,
    /// A tag that its devices get; repeat it, or separate tags by commas, for several
    #[arg(long = "tag", value_delimiter = ',', value_name = "TAG")]
    tags: Vec<Tag>,
    /// A note for people
    #[arg(long, default_value = "")]
    note: String,
    /// Print one JSON document, the key included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  overlan admin auth-key create > key.txt
  overlan admin auth-key create --reusable --ephemeral --expires 30d --tag ci --note 'CI runners'
  For ten machines of one office:
    overlan admin auth-key create --max-uses 10 --from 192.0.2.0/24
  Its devices join both networks:
    overlan admin auth-key create --network home --network acme
  Each device waits for `overlan admin device approve`:
    overlan admin auth-key create --approval
  A redeployed server keeps its name:
    overlan admin auth-key create --reusable --on-name-taken take-over-offline";

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin auth-key list
  overlan admin auth-key list --json | jq -r '.auth_keys[] | select(.revoked | not) | .id'";

const REVOKE_EXAMPLES: &str = "\
Examples:
  overlan admin auth-key list                  shows the ids
  overlan admin auth-key revoke 3483819da319";

/// [`NamePolicy`] as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnNameTaken {
    /// Add a number to the name
    Suffix,
    /// Replace the other device if it is offline and the same key enrolled it; else as suffix
    TakeOverOffline,
    /// Refuse to enrol
    Fail,
}

impl From<OnNameTaken> for NamePolicy {
    fn from(choice: OnNameTaken) -> Self {
        match choice {
            OnNameTaken::Suffix => Self::Suffix,
            OnNameTaken::TakeOverOffline => Self::TakeOverOffline,
            OnNameTaken::Fail => Self::Fail,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The key's id, as `overlan admin auth-key list` shows it
    id: String,
    #[command(flatten)]
    state: StateArgs,
}

fn devices(key: &AuthKeySummary) -> String {
    match (key.max_uses, key.reusable) {
        (Some(most), true) => format!("{most} devices"),
        (_, true) => "any number of devices".to_owned(),
        (_, false) => "one device".to_owned(),
    }
}

/// `overlan admin auth-key …`.
pub(super) async fn run(command: AuthKeyCommand) -> Result<(), Failure> {
    match command {
        AuthKeyCommand::Create(args) => create_key(args).await,
        AuthKeyCommand::Revoke(args) => revoke_key(&args).await,
        AuthKeyCommand::List(args) => {
            let now = wall();
            let row = |key: &AuthKeySummary| [key_row(key, now)];
            list(&args, path::AUTH_KEYS, KEYS, row).await
        }
    }
}

async fn create_key(args: CreateArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let request = AuthKeyRequest {
        networks: args.networks,
        reusable: args.reusable,
        ephemeral: args.ephemeral,
        approval: args.approval,
        expires_in_secs: args.expires,
        on_name_taken: args.on_name_taken.into(),
        note: args.note,
        tags: args.tags.into_iter().collect(),
        max_uses: args.max_uses,
        sources: args.sources,
        ephemeral_secs: args.ephemeral_for,
    };
    let made: AuthKeyResponse = connection
        .post(path::AUTH_KEYS, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("auth_key", &made));
    }
    // The key alone is the answer, so that it can go straight into a file.
    output::note(&format!(
        "Auth key {} for network {}: {}, ends {}. It is shown only once.",
        made.summary.id,
        made.summary.networks.join(" and "),
        devices(&made.summary),
        end(made.summary.expires, wall()),
    ));
    output::answer(made.key.reveal())
}

async fn revoke_key(args: &RevokeArgs) -> Result<(), Failure> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    // It becomes a part of the request's path.
    if args.id.is_empty() || !args.id.bytes().all(is_id) {
        return Err(Failure::usage(format!(
            "{:?} is not the id of an auth key; `overlan admin auth-key list` shows them",
            args.id
        )));
    }
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let path = format!("{}/{}", path::AUTH_KEYS, args.id);
    connection
        .delete(&path, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let id = &args.id;
    output::note(&format!(
        "Revoked auth key {id}. Devices that it enrolled stay: `overlan admin device list --owner \
         {id}` lists them, \
         `overlan admin device remove --owner {id}` removes them."
    ));
    Ok(())
}

const KEYS: List<7> = List {
    name: "auth_keys",
    head: ["ID", "NETWORKS", "KIND", "ENDS", "USES", "TAGS", "NOTE"],
    if_empty: "No auth key yet. `overlan admin auth-key create > key.txt` makes one.",
};

fn key_row(key: &AuthKeySummary, now: UnixTime) -> [String; 7] {
    let reusable = match (key.max_uses, key.reusable) {
        (Some(most), true) => format!("{most} devices"),
        (_, true) => "reusable".to_owned(),
        (_, false) => "one-off".to_owned(),
    };
    let ephemeral = match key.ephemeral_secs {
        Some(secs) => format!("ephemeral for {}", age(secs)),
        None => "ephemeral".to_owned(),
    };
    let from = key.sources.iter().map(|range| format!("from {range}"));
    let words = [
        Some(reusable),
        key.ephemeral.then_some(ephemeral),
        key.approval.then(|| "approval".to_owned()),
    ];
    let kind: Vec<String> = words.into_iter().flatten().chain(from).collect();
    let is_used_up = match key.max_uses {
        Some(most) => key.uses >= most,
        None => !key.reusable && key.uses > 0,
    };
    let ends = match (key.revoked, is_used_up) {
        (true, _) => "revoked".to_owned(),
        (false, true) => "used".to_owned(),
        (false, false) => end(key.expires, now),
    };
    [
        key.id.clone(),
        key.networks.join(","),
        kind.join(", "),
        ends,
        key.uses.to_string(),
        device::tag_list(&key.tags),
        key.note.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_what_became_of_it() {
        let key = AuthKeySummary {
            id: "k1".to_owned(),
            networks: vec!["home".to_owned(), "acme".to_owned()],
            reusable: true,
            approval: false,
            ephemeral: true,
            expires: UnixTime::from_secs(90_000),
            uses: 3,
            revoked: false,
            note: "CI".to_owned(),
            tags: ["ci".parse().unwrap()].into(),
            max_uses: None,
            sources: Vec::new(),
            ephemeral_secs: None,
        };
        let row = key_row(&key, UnixTime::EPOCH);
        assert_eq!(
            row,
            [
                "k1",
                "home,acme",
                "reusable, ephemeral",
                "in 25 h",
                "3",
                "ci",
                "CI"
            ]
        );
        assert_eq!(key_row(&key, UnixTime::from_secs(90_060))[3], "60 s ago");
        let used = AuthKeySummary {
            reusable: false,
            uses: 1,
            ..key.clone()
        };
        assert_eq!(
            key_row(&used, UnixTime::EPOCH)[3],
            "used",
            "it lets nobody in any more"
        );
        let few = AuthKeySummary {
            max_uses: Some(5),
            uses: 5,
            sources: vec!["192.0.2.0/24".parse().unwrap()],
            ephemeral_secs: Some(3_600),
            ..key.clone()
        };
        let row = key_row(&few, UnixTime::EPOCH);
        assert_eq!(row[2], "5 devices, ephemeral for 60 min, from 192.0.2.0/24");
        assert_eq!(row[3], "used");
        let revoked = AuthKeySummary {
            revoked: true,
            ..key
        };
        assert_eq!(key_row(&revoked, UnixTime::EPOCH)[3], "revoked");
    }

    #[tokio::test]
    async fn an_id_cannot_lead_to_another_path() {
        let root = tempfile::tempdir().unwrap();
        for id in ["", "../networks", "a/b", "a?b", "a b"] {
            let args = RevokeArgs {
                id: id.to_owned(),
                state: StateArgs {
                    state_dir: Some(root.path().join("state")),
                },
            };
            let failure = revoke_key(&args).await.unwrap_err();
            assert_eq!(failure.code(), crate::commands::exit::Code::Usage, "{id:?}");
        }
    }
}
