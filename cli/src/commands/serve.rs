//! `serve`: the local services that peers may reach, and the gateway routes that are offered.
//! Decides whether a running `overlan up` or the stored list is changed. Its rooms: `args`, `words`
//! and `hints`.

use overlan::program::node::routes::{self, RouteError};
use overlan::program::serve_list::{self, ServeConflict};
use overlan::program::service::Serve;
use overlan::program::socket::{CallError, Request, Response, call};
use overlan::program::state::StateDir;
use overlan::program::status::{RouteStatus, columns};
use overlan_protocol::gateway::OfferedRoute;

use crate::commands::exit::{Code, Failure};
use crate::commands::{StateArgs, output, running};

use args::ServeListArgs;
pub(crate) use args::{EXAMPLES, ServeCommand};
use words::ServedEntry;

mod args;

mod hints;

mod words;

/// `overlan serve …`.
pub(crate) async fn run(command: ServeCommand) -> Result<(), Failure> {
    match command {
        ServeCommand::Tcp(args) => serve(args.service()).await,
        ServeCommand::Unix(args) => serve(args.service()).await,
        ServeCommand::Http(args) => serve(args.service()).await,
        ServeCommand::Udp(args) => serve(args.service()).await,
        ServeCommand::Route(args) => offer(&args.state.create()?, args.route.into()).await,
        ServeCommand::Host(args) => {
            let wished = args.offer()?;
            offer(&args.state.create()?, wished).await
        }
        ServeCommand::Remove(args) => {
            let what = ServedEntry::from_words(&args.what).map_err(Failure::usage)?;
            let state = args.state.open()?;
            match what {
                ServedEntry::Port(port, transport) => {
                    let request = Request::ServeRemove { port, transport };
                    change(&state, &request, |serves| {
                        serve_list::remove(serves, port, transport).map(drop)
                    })
                    .await
                }
                ServedEntry::Route(route) => {
                    let request = Request::RouteRemove(route.clone());
                    change_routes(&state, &request, |routes| routes::remove(routes, &route)).await
                }
            }
        }
        ServeCommand::List(args) => list(&args).await,
    }
}

async fn offer(state: &StateDir, offer: OfferedRoute) -> Result<(), Failure> {
    let route = offer.route().clone();
    let request = Request::RouteAdd(offer.clone());
    change_routes(state, &request, |routes| routes::add(routes, offer)).await?;
    let label = state.load_device()?.map(|device| device.label);
    let label = label.unwrap_or_else(|| "DEVICE".to_owned());
    output::note(&format!(
        "{route} is offered. An admin approves it: overlan admin route approve {label} {route}"
    ));
    Ok(())
}

async fn serve((state, serve): (StateArgs, Serve)) -> Result<(), Failure> {
    let state = state.create()?;
    let places = match call(&state.socket_path(), &Request::Status).await {
        Ok(Response::Status(status)) => hints::places(&status),
        // The change below reports what is wrong there.
        Ok(_) | Err(_) => Vec::new(),
    };
    if let Some(unknown) = hints::unknown_networks(&serve.networks, &places) {
        return Err(Failure::usage(unknown).next(
            "`overlan network list` shows the networks that it may join; `overlan network join` \
             joins one.",
        ));
    }
    let request = Request::ServeAdd(serve.clone());
    change(&state, &request, |serves| serve_list::add(serves, &serve)).await?;
    if let Some(warning) = hints::dead_target(&serve) {
        output::note(&warning);
    }
    let reached = hints::reached(&serve, &places);
    if reached.is_empty() {
        return Ok(());
    }
    output::note("Serving; peers reach it as:");
    output::answer(&reached.join("\n"))
}

/// Lets the running client change the list of services, or changes the stored one if none runs.
async fn change(
    state: &StateDir,
    request: &Request,
    change: impl FnOnce(&mut Vec<Serve>) -> Result<(), ServeConflict>,
) -> Result<(), Failure> {
    let stored = || {
        let mut serves = state.load_serves()?;
        change(&mut serves).map_err(|conflict| Failure::new(Code::Other, conflict))?;
        Ok(state.save_serves(&serves)?)
    };
    change_here_or_there(state, request, stored).await
}

/// Does the same for the list of routes.
async fn change_routes(
    state: &StateDir,
    request: &Request,
    change: impl FnOnce(&mut Vec<OfferedRoute>) -> Result<(), RouteError>,
) -> Result<(), Failure> {
    let stored = || {
        let mut routes = state.load_routes()?.unwrap_or_default();
        change(&mut routes).map_err(|error| Failure::new(Code::Other, error))?;
        Ok(state.save_routes(&routes)?)
    };
    change_here_or_there(state, request, stored).await
}

async fn change_here_or_there(
    state: &StateDir,
    request: &Request,
    stored: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    match call(&state.socket_path(), request).await {
        Ok(_) => Ok(()),
        Err(CallError::NotRunning(_)) => {
            // No client may start in between and miss the change.
            let _lock = state.exists().then(|| state.lock()).transpose()?;
            stored()?;
            output::note("No `overlan up` runs; this counts from its next start.");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn list(args: &ServeListArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let (serves, routes) = match call(&state.socket_path(), &Request::Status).await {
        Ok(Response::Status(status)) => (status.serves, status.routes),
        Ok(other) => return Err(running::unexpected(&other)),
        Err(CallError::NotRunning(_)) => {
            let routes = state.load_routes()?.unwrap_or_default().into_iter();
            let unknown = |offer: OfferedRoute| RouteStatus {
                route: offer.route().clone(),
                name: offer.name().map(str::to_owned),
                approved_in: Vec::new(),
            };
            (state.load_serves()?, routes.map(unknown).collect())
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        let document =
            serde_json::json!({ "schema_version": 1, "serves": serves, "routes": routes });
        return output::json(&document);
    }
    if serves.is_empty() && routes.is_empty() {
        output::note("Nothing is served yet. `overlan serve 3000` serves port 3000 of this host.");
        return Ok(());
    }
    let mut rows: Vec<[String; 3]> = serves
        .iter()
        .map(|serve| {
            [
                serve.kind.to_string(),
                serve.port.to_string(),
                format!("{}{}", serve.target, serve.remarks()),
            ]
        })
        .collect();
    rows.extend(
        routes
            .iter()
            .map(|offered| ["route".to_owned(), offered.offer(), offered.state()]),
    );
    output::answer(&columns(&rows))
}

#[cfg(test)]
mod tests;
