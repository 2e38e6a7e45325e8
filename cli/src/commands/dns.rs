//! `dns`: the answers of the running client to questions for names, and the rule that gave each.
//! Decides how they are shown.

use clap::{Args, Subcommand};
use overlan::program::dns::explain::{Explained, Rule};
use overlan::program::socket::{Request, Response, call};
use overlan::program::status::{ResolverStatus, Status, printable};

use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, output, running};

pub(super) const EXAMPLES: &str = "\
Examples:
  overlan dns status
  overlan dns query web.home.overlan.internal";

#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Show the resolver and its domains
    #[command(after_help = STATUS_EXAMPLES)]
    Status(DnsStatusArgs),
    /// Resolve a name as a program would, and show the rule that answered
    Query(QueryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DnsStatusArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = QUERY_EXAMPLES)]
pub(crate) struct QueryArgs {
    /// The whole name
    name: String,
    /// Type of record
    #[arg(default_value = "A", value_name = "TYPE")]
    kind: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  overlan dns status
  overlan dns status --json | jq -r .resolver";

const QUERY_EXAMPLES: &str = "\
Examples:
  overlan dns query web.home.overlan.internal
  overlan dns query _ldap._tcp.home.overlan.internal SRV

Exit codes: 0 answered, 1 no such name, not ours, or no resolver of its zone answers, 3 no
`overlan up` runs.";

/// `overlan dns …`.
pub(crate) async fn run(command: DnsCommand) -> Result<(), Failure> {
    match command {
        DnsCommand::Status(args) => {
            let status = running::ask_status(&args.state).await?;
            let domains = domains(&status);
            if args.json {
                return output::json(&serde_json::json!({
                    "schema_version": 1, "resolver": status.dns, "domains": domains,
                    "zones": status.dns_zones, "forwards": status.dns_forwards,
                }));
            }
            let resolver = match status.dns {
                Some(address) => format!("{address}, over UDP and TCP"),
                None => "off; `overlan up --dns 127.0.0.1:1053` opens one".to_owned(),
            };
            let mut text = format!("resolver {resolver}\n");
            for domain in domains {
                text.push_str(&format!("domain   {domain}\n"));
            }
            for zone in &status.dns_zones {
                text.push_str(&format!(
                    "zone     {} of network {}",
                    zone.zone, zone.network
                ));
                match zone.resolvers.is_empty() {
                    true => text.push_str(", by its records\n"),
                    false => text.push('\n'),
                }
                for resolver in &zone.resolvers {
                    text.push_str(&format!("  by     {}\n", with_result(resolver)));
                }
            }
            for forward in &status.dns_forwards {
                text.push_str(&format!("others   forwarded to {}\n", with_result(forward)));
            }
            if status.dns_forwards.is_empty() {
                text.push_str("others   refused, for the system's resolver to ask elsewhere");
            }
            output::answer(text.trim_end())
        }
        DnsCommand::Query(args) => {
            let explained = ask(&args).await?;
            let is_answered = explained.code == "NOERROR";
            if args.json {
                let document = serde_json::json!({ "schema_version": 1, "query": explained });
                output::json(&document)?;
            } else {
                output::answer(&shown(&explained))?;
            }
            match is_answered {
                true => Ok(()),
                false => Err(Failure::new(
                    Code::Other,
                    format!("{} is not answered: {}", explained.name, explained.code),
                )),
            }
        }
    }
}

async fn ask(args: &QueryArgs) -> Result<Explained, Failure> {
    let socket = args.state.open()?.socket_path();
    let request = Request::DnsQuery {
        name: args.name.clone(),
        kind: args.kind.clone(),
    };
    let answer = call(&socket, &request).await?;
    match answer {
        Response::DnsAnswer(explained) => Ok(*explained),
        other @ (Response::Done
        | Response::Status(_)
        | Response::Version(_)
        | Response::Progress(_)
        | Response::Measured(_)
        | Response::SendSockets
        | Response::Happened(_)
        | Response::Pong(_)
        | Response::Whois(_)
        | Response::Refused(_)) => Err(running::unexpected(&other)),
    }
}

fn domains(status: &Status) -> Vec<String> {
    let Some(domain) = &status.domain else {
        return Vec::new();
    };
    let networks = status.networks.iter();
    networks
        .map(|network| format!("{}.{domain}", network.name))
        .collect()
}

/// Returns a resolver's name with the result of the last question to it.
fn with_result(resolver: &ResolverStatus) -> String {
    let name = &resolver.resolver;
    match (resolver.answered, &resolver.last_error) {
        (None, _) => format!("{name}, not asked yet"),
        (Some(true), _) => format!("{name}, answered"),
        (Some(false), error) => {
            let error = error.as_deref().unwrap_or("no reason known");
            format!("{name}, did not answer: {}", printable(error))
        }
    }
}

fn shown(explained: &Explained) -> String {
    let rule = match &explained.rule {
        Rule::Device { network } => format!("a device of network {network}"),
        Rule::Record { network } => format!("a record of network {network}"),
        Rule::Zone { zone } => format!("zone {zone}, which has nothing by that name"),
        Rule::Resolvers { zone, resolver, .. } => {
            let by = resolver.as_deref().unwrap_or("no resolver that answers");
            format!("zone {zone} by {by} (through the overlay)")
        }
        Rule::Forward { resolver } => {
            format!(
                "forwarded to {}",
                resolver.as_deref().unwrap_or("no resolver that answers")
            )
        }
        Rule::Reverse => "addresses of the overlay".to_owned(),
        Rule::Outside => "none: outside the overlay".to_owned(),
    };
    let cached = match explained.cached {
        true => ", from the cache",
        false => "",
    };
    let mut text = format!("rule     {rule}{cached}\nanswer   {}", explained.code);
    for error in &explained.errors {
        text.push_str(&format!("\nfailed   {}", printable(error)));
    }
    for answer in &explained.answers {
        text.push_str(&format!("\n{}", printable(answer)));
    }
    text
}
