//! `admin dns`: records and private zones of a network. Decides how they are shown; the controller
//! decides what a network may have.

use clap::{Args, Subcommand};
use overlan::program::status::columns;
use overlan_protocol::api::dns::{
    DnsRecordRemoval, DnsRecordRequest, DnsRecordSummary, DnsRemoved, DnsSummary, DnsZoneRemoval,
    DnsZoneRequest, DnsZoneSummary,
};
use overlan_protocol::api::path;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum AdminDnsCommand {
    /// Show records and zones of a network
    #[command(after_help = LIST_EXAMPLES)]
    List(RecordListArgs),
    /// Add a record
    Add(AddArgs),
    /// Remove records of a name
    #[command(after_help = REMOVE_EXAMPLES, alias = "delete")]
    Remove(RecordRemoveArgs),
    /// Manage zones beside the network's own, such as corp.internal
    #[command(subcommand)]
    Zone(ZoneCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Add a zone: its names are records of the network, or are delegated to resolvers
    Add(AddZoneArgs),
    /// Remove a zone that has no records
    #[command(after_help = REMOVE_ZONE_EXAMPLES, alias = "delete")]
    Remove(ZoneArgs),
}

#[derive(Debug, Args)]
struct DnsNetworkArgs {
    /// Network, by its label [default: the organisation's default network]
    #[arg(long, env = "OVERLAN_NETWORK")]
    network: Option<String>,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RecordListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of: DnsNetworkArgs,
}

#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLES)]
pub(crate) struct AddArgs {
    /// A label in the network, or a whole name below it or in one of its zones
    name: String,
    /// A, AAAA, CNAME, TXT or SRV
    #[arg(value_name = "TYPE")]
    kind: String,
    /// An address, a name, a text, or PRIORITY WEIGHT PORT NAME
    #[arg(required = true)]
    value: Vec<String>,
    #[command(flatten)]
    of: DnsNetworkArgs,
}

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin dns list
  overlan admin dns list --network acme --json";

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan admin dns remove db                  all records of db
  overlan admin dns remove www A 100.64.0.7    this one only";

const REMOVE_ZONE_EXAMPLES: &str = "\
Examples:
  overlan admin dns zone remove corp.internal";

const ADD_EXAMPLES: &str = "\
Examples:
  overlan admin dns add db CNAME gateway.home.overlan.internal    db is also gateway
  overlan admin dns add www A 100.64.0.7
  overlan admin dns add _ldap._tcp.home.overlan.internal SRV 0 0 389 dc.home.overlan.internal";

#[derive(Debug, Args)]
pub(crate) struct RecordRemoveArgs {
    /// The name, as for add
    name: String,
    /// Only records of this type
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Only the one with this value
    value: Vec<String>,
    #[command(flatten)]
    of: DnsNetworkArgs,
}

#[derive(Debug, Args)]
#[command(after_help = ADD_ZONE_EXAMPLES)]
pub(crate) struct AddZoneArgs {
    /// Resolver inside the overlay that knows the zone's names: PEER[:PORT], or ADDRESS[:PORT] of a
    /// device or of a gateway host; repeat it for others that are asked when the first does not
    /// answer [default port: 53]
    #[arg(long = "resolver", value_name = "RESOLVER")]
    resolvers: Vec<String>,
    #[command(flatten)]
    zone: ZoneArgs,
}

const ADD_ZONE_EXAMPLES: &str = "\
Examples:
  A zone whose names are records (overlan admin dns add):
    overlan admin dns zone add corp.internal
  A zone that devices dc and dc2 answer; each serves TCP port 53:
    overlan admin dns zone add corp.example --resolver dc --resolver dc2
  A zone that a gateway host answers:
    overlan admin dns zone add corp.example --resolver 10.1.0.53

Adding a zone again gives it other resolvers.";

#[derive(Debug, Args)]
pub(crate) struct ZoneArgs {
    /// The zone's name
    zone: String,
    #[command(flatten)]
    of: DnsNetworkArgs,
}

/// `overlan admin dns …`.
pub(crate) async fn run(command: AdminDnsCommand) -> Result<(), Failure> {
    match command {
        AdminDnsCommand::List(args) => list(&args).await,
        AdminDnsCommand::Add(args) => {
            let request = |network| DnsRecordRequest {
                network,
                name: args.name,
                kind: args.kind.to_ascii_uppercase(),
                value: args.value.join(" "),
            };
            let made: DnsRecordSummary = change(&args.of, path::DNS_RECORDS, request).await?;
            output::note(&format!("Added {}.", made.name));
            Ok(())
        }
        AdminDnsCommand::Remove(args) => {
            let request = |network| DnsRecordRemoval {
                network,
                name: args.name,
                kind: args.kind.map(|kind| kind.to_ascii_uppercase()),
                value: (!args.value.is_empty()).then(|| args.value.join(" ")),
            };
            let done: DnsRemoved = change(&args.of, path::DNS_RECORDS_REMOVE, request).await?;
            output::note(&format!("Removed {}.", done.removed));
            Ok(())
        }
        AdminDnsCommand::Zone(ZoneCommand::Add(args)) => {
            let ZoneArgs { zone, of } = args.zone;
            let request = |network| DnsZoneRequest {
                network,
                zone,
                via: args.resolvers,
            };
            let made: DnsZoneSummary = change(&of, path::DNS_ZONES, request).await?;
            output::note(&format!("Added zone {}.", made.zone));
            Ok(())
        }
        AdminDnsCommand::Zone(ZoneCommand::Remove(args)) => {
            let request = |network| DnsZoneRemoval {
                network,
                zone: args.zone,
            };
            let done: DnsRemoved = change(&args.of, path::DNS_ZONES_REMOVE, request).await?;
            output::note(&format!("Removed zone {}.", done.removed));
            Ok(())
        }
    }
}

async fn list(args: &RecordListArgs) -> Result<(), Failure> {
    let dns = settings(&args.of).await?;
    if args.json {
        return output::json(&serde_json::json!({ "schema_version": 1, "dns": dns }));
    }
    let mut rows = vec![["NAME", "TYPE", "VALUE"].map(str::to_owned)];
    for zone in &dns.zones {
        let resolvers: Vec<String> = zone.via.iter().map(ToString::to_string).collect();
        let value = match resolvers.is_empty() {
            true => "-".to_owned(),
            false => format!("by {}", resolvers.join(", ")),
        };
        rows.push([zone.zone.clone(), "zone".to_owned(), value]);
    }
    for record in &dns.records {
        let (kind, value) = (record.record.kind(), record.record.value());
        rows.push([record.name.clone(), kind.to_owned(), value]);
    }
    output::answer(&columns(&rows))
}

async fn settings(of: &DnsNetworkArgs) -> Result<DnsSummary, Failure> {
    let mut connection = api::open_as_person(&of.state.open()?).await?;
    let path = match &of.network {
        Some(network) => {
            // It becomes a part of the request.
            if !overlan_protocol::name::is_label(network) {
                return Err(Failure::usage(format!(
                    "{network:?} is not a valid name of a network"
                )));
            }
            format!("{}?network={network}", path::DNS)
        }
        None => path::DNS.to_owned(),
    };
    connection
        .get(&path, api::WITHIN)
        .await
        .map_err(api::as_person)
}

/// Posts what `request` makes of the network's label, which the controller knows if nobody said it.
async fn change<Q: Serialize + Sync, A: DeserializeOwned>(
    of: &DnsNetworkArgs,
    path: &str,
    request: impl FnOnce(String) -> Q,
) -> Result<A, Failure> {
    let network = match &of.network {
        Some(network) => network.clone(),
        None => settings(of).await?.network,
    };
    let mut connection = api::open_as_person(&of.state.open()?).await?;
    connection
        .post(path, &request(network), api::WITHIN)
        .await
        .map_err(api::as_person)
}
