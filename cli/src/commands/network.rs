//! `network`: the networks of this device, which it joins and leaves by itself. The controller
//! decides whether it may.

use std::time::Duration;

use clap::{Args, Subcommand};
use overlan::program::state::{Device, StateDir};
use overlan::program::status::{NetworkStatus, Status, columns};
use overlan_protocol::api::{JoinRequest, MembershipSummary, NetworkChoice, path};
use overlan_protocol::proof::Principal;
use overlan_transport::https::Connection;
use tokio::time::{Instant, sleep_until};

use crate::commands::admin::parse_label;
use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, api, output, running};

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Show the networks that this device is in, and those that it may join
    #[command(after_help = EXAMPLES)]
    List(NetworkListArgs),
    /// Join a network that this device may join; a running `overlan up` takes part at once
    #[command(after_help = EXAMPLES)]
    Join(ChangeArgs),
    /// Leave a network; this device may come back
    #[command(after_help = EXAMPLES)]
    Leave(ChangeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetworkListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The network
    #[arg(value_parser = parse_label)]
    network: String,
    #[command(flatten)]
    state: StateArgs,
}

const EXAMPLES: &str = "\
Examples:
  overlan network list
  overlan network join acme && curl -x socks5h://127.0.0.1:1080 http://web.acme.overlan.internal
  overlan network leave acme

A device may join the networks of the auth key by which it was enrolled, and those into which
`overlan admin network add` put it, until it is taken out.";

/// `overlan network …`.
pub(crate) async fn run(command: NetworkCommand) -> Result<(), Failure> {
    match command {
        NetworkCommand::List(args) => list(&args).await,
        NetworkCommand::Join(args) => join(&args).await,
        NetworkCommand::Leave(args) => leave(&args).await,
    }
}

async fn list(args: &NetworkListArgs) -> Result<(), Failure> {
    let (_, mut connection) = open_as_device(&args.state.open()?).await?;
    let choices: Vec<NetworkChoice> = connection.get(path::DEVICE_NETWORKS, api::WITHIN).await?;
    if args.json {
        return output::json(&serde_json::json!({ "schema_version": 1, "networks": choices }));
    }
    let head = ["NETWORK", "STATE", "NAME", "ADDRESS"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(choices.iter().map(row));
    output::answer(&columns(&rows))
}

fn row(choice: &NetworkChoice) -> [String; 4] {
    let (state, label, address) = match &choice.joined {
        Some(place) => ("member", place.label.as_str(), place.address.as_str()),
        None => ("may join", "-", "-"),
    };
    [&choice.network, state, label, address].map(str::to_owned)
}

async fn join(args: &ChangeArgs) -> Result<(), Failure> {
    let (device, mut connection) = open_as_device(&args.state.open()?).await?;
    let request = JoinRequest {
        network: args.network.clone(),
    };
    let place: MembershipSummary = connection
        .post(path::DEVICE_NETWORKS, &request, api::WITHIN)
        .await?;
    let name = format!("{}.{}.{}", place.label, place.network, device.domain);
    let joined = format!("This device is {name}, {}", place.address);
    let takes_part = |status: &Status| find(status, &args.network).is_some_and(|it| it.attached);
    match follow(&args.state, takes_part).await? {
        Followed::Done => output::note(&format!("{joined}.")),
        Followed::NotRunning => {
            output::note(&format!("{joined}, once `overlan up` runs."));
        }
    }
    Ok(())
}

async fn leave(args: &ChangeArgs) -> Result<(), Failure> {
    let (_, mut connection) = open_as_device(&args.state.open()?).await?;
    let path = format!("{}/{}", path::DEVICE_NETWORKS, args.network);
    connection.delete(&path, api::WITHIN).await?;
    follow(&args.state, |status| find(status, &args.network).is_none()).await?;
    output::note(&format!("This device left network {}.", args.network));
    Ok(())
}

fn find<'a>(status: &'a Status, label: &str) -> Option<&'a NetworkStatus> {
    status.networks.iter().find(|network| network.name == label)
}

enum Followed {
    Done,
    NotRunning,
}

/// Waits until a running `overlan up` has heard of the change.
async fn follow(state: &StateArgs, done: impl Fn(&Status) -> bool) -> Result<Followed, Failure> {
    let deadline = Instant::now() + FOLLOWED_WITHIN;
    loop {
        let next = Instant::now() + ASK_EVERY;
        match running::ask_status(state).await {
            Ok(status) if done(&status) => return Ok(Followed::Done),
            Ok(_) if next >= deadline => {
                return Err(Failure::new(
                    Code::TimedOut,
                    format!(
                        "the controller has changed it; the running `overlan up` has not followed \
                         for {} s",
                        FOLLOWED_WITHIN.as_secs()
                    ),
                )
                .next("See `overlan status`."));
            }
            Ok(_) => {}
            Err(failure) if failure.code() == Code::NotRunning => return Ok(Followed::NotRunning),
            Err(failure) => return Err(failure),
        }
        sleep_until(next).await;
    }
}

async fn open_as_device(state: &StateDir) -> Result<(Device, Connection), Failure> {
    let device = state.load_device()?.ok_or_else(|| {
        Failure::new(Code::NeedsLogin, "this device is not enrolled yet")
            .next("Run `overlan up` first; `overlan up --help` shows how.")
    })?;
    let mut connection = api::open(&device.join).await?;
    connection.prove(Principal::Device(device.device), &device.identity);
    Ok((device, connection))
}

/// The controller tells a running client within milliseconds, and a link takes some round trips.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);

/// From one look to the next.
const ASK_EVERY: Duration = Duration::from_millis(50);
