//! `admin route`: the routes that gateways offer, and who may use them. Decides which of the
//! offered routes a person means.

use clap::{Args, Subcommand};
use overlan_protocol::api::{ApproveRequest, RouteSummary, path};
use overlan_protocol::gateway::GatewayRoute;

use super::network::parse_label;
use super::{List, ListArgs, device};
use crate::commands::exit::Failure;
use crate::commands::{StateArgs, api, output};

#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// List offered and approved routes
    #[command(after_help = EXAMPLES)]
    List(ListArgs),
    /// Let the members of a network use a route
    #[command(after_help = EXAMPLES)]
    Approve(ApprovalArgs),
    /// Withdraw the approval; open connections stay
    #[command(after_help = EXAMPLES)]
    Reject(ApprovalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ApprovalArgs {
    /// The device: its name, name.network, or id, as `overlan admin device list` shows them
    device: String,
    /// The route, as `overlan admin route list` shows it
    route: GatewayRoute,
    /// Only in this network [default: all in which the device offers it]
    #[arg(long, env = "OVERLAN_ROUTE_NETWORK", value_name = "NAME", value_parser = parse_label)]
    network: Option<String>,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan admin route list
  overlan admin route approve gateway 10.1.0.0/16
  overlan admin route approve gateway 'db.internal:5432' --network acme
  overlan admin route reject gateway 10.1.0.0/16";

/// `overlan admin route …`, but the list.
pub(super) async fn run(command: RouteCommand) -> Result<(), Failure> {
    match command {
        RouteCommand::Approve(args) => set(&args, true).await,
        RouteCommand::Reject(args) => set(&args, false).await,
        // It is a list like the others.
        RouteCommand::List(_) => Ok(()),
    }
}

async fn set(args: &ApprovalArgs, approved: bool) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let device = device::find(&mut connection, &args.device).await?.id;
    let offered: Vec<RouteSummary> = connection
        .get(path::ROUTES, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let is_meant = |offer: &&RouteSummary| {
        let network = args.network.as_ref();
        offer.device == device
            && offer.route == args.route
            && network.is_none_or(|network| *network == offer.network)
    };
    let meant: Vec<&RouteSummary> = offered.iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(
            Failure::usage(format!("{} does not offer {}", args.device, args.route)).next(
                "`overlan serve route` there offers it; `overlan admin route list` shows what is \
        offered.",
            ),
        );
    }
    for offer in meant {
        let request = ApproveRequest {
            device,
            network: offer.network.clone(),
            route: args.route.clone(),
            approved,
        };
        let done: RouteSummary = connection
            .post(path::ROUTES, &request, api::WITHIN)
            .await
            .map_err(api::as_person)?;
        let what = match done.approved {
            true => "may use",
            false => "may no longer use",
        };
        let called = match (&done.name, done.approved) {
            (Some(name), true) => format!(", as {name}.{}", done.network),
            _ => String::new(),
        };
        output::note(&format!(
            "Members of {} {what} {} by {}{called}.",
            done.network, done.route, done.label
        ));
    }
    Ok(())
}

pub(super) const LIST: List<5> = List {
    name: "routes",
    head: ["DEVICE", "NETWORK", "ROUTE", "NAME", "STATE"],
    if_empty: "No route is offered yet. `overlan serve route 10.1.0.0/16` on a device offers one.",
};

pub(super) fn row(offer: &RouteSummary) -> [String; 5] {
    let state = match offer.approved {
        true => "approved",
        false => "offered",
    };
    [
        offer.label.clone(),
        offer.network.clone(),
        offer.route.to_string(),
        offer.name.clone().unwrap_or_default(),
        state.to_owned(),
    ]
}
