//! One route of the API: its method, its path, who may call it, the gate, and the handler after it.
//! There is no way to a handler but [`Endpoint::mount`], which puts the gate before it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use overlan_protocol::api::Permission;

use super::caller;
use super::problem::Refusal;
use crate::deployment::Deployment;

/// The callers that a route admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody: there is nothing to protect, or the body holds the credential.
    Anybody,
    /// A person who is logged in, for what belongs to the own account.
    OwnAccount,
    /// A person with this permission.
    May(Permission),
    /// A device, by proof of its key.
    Device,
    /// A relay, by proof of its key.
    Relay,
}

/// One route.
#[derive(Debug)]
pub(super) struct Endpoint {
    path: String,
    access: Access,
    handler: MethodRouter<Arc<Deployment>>,
}

impl Endpoint {
    fn new<H, T>(filter: MethodFilter, path: impl Into<String>, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<Deployment>>,
        T: 'static,
    {
        Self {
            path: path.into(),
            access,
            handler: on(filter, handler),
        }
    }

    /// Connects its path with the gate, and the gate with the handler.
    pub(super) fn mount(
        self,
        router: Router<Arc<Deployment>>,
        deployment: &Arc<Deployment>,
    ) -> Router<Arc<Deployment>> {
        let gate = Gate {
            access: self.access,
            deployment: deployment.clone(),
        };
        let guarded = self.handler.route_layer(from_fn_with_state(gate, pass));
        router.route(&self.path, guarded)
    }
}

/// A route that reads.
pub(super) fn get<H, T>(path: impl Into<String>, access: Access, handler: H) -> Endpoint
where
    H: Handler<T, Arc<Deployment>>,
    T: 'static,
{
    Endpoint::new(MethodFilter::GET, path, access, handler)
}

/// A route that makes or changes something.
pub(super) fn post<H, T>(path: impl Into<String>, access: Access, handler: H) -> Endpoint
where
    H: Handler<T, Arc<Deployment>>,
    T: 'static,
{
    Endpoint::new(MethodFilter::POST, path, access, handler)
}

/// A route that removes something.
pub(super) fn delete<H, T>(path: impl Into<String>, access: Access, handler: H) -> Endpoint
where
    H: Handler<T, Arc<Deployment>>,
    T: 'static,
{
    Endpoint::new(MethodFilter::DELETE, path, access, handler)
}

/// Returns the path of something below `path`.
pub(super) fn below(path: &str, rest: &str) -> String {
    format!("{path}/{rest}")
}

/// The gate of one handler.
#[derive(Debug, Clone)]
struct Gate {
    access: Access,
    deployment: Arc<Deployment>,
}

/// Lets a request through to its handler, with its caller.
async fn pass(
    State(gate): State<Gate>,
    request: Request,
    handler: Next,
) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    caller::admit(&mut parts, &gate.deployment, gate.access).await?;
    Ok(handler.run(Request::from_parts(parts, body)).await)
}
