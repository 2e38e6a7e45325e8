//! One route of the API: its method, its path, who may call it, the gate, and the handler after it.
//! There is no way to a handler but [`Endpoint::mount`], which puts the gate before it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use overlan_protocol::api::Permission;

use super::caller;
use super::describe::{Described, Description};
use super::etag;
use super::idempotency;
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

impl Access {
    /// Returns its name in the OpenAPI document.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::OwnAccount => "own account",
            Self::May(permission) => permission.name(),
            Self::Device => "device",
            Self::Relay => "relay",
        }
    }
}

/// One route.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) access: Access,
    /// Its arguments and its answer, unless it is a route of devices or relays.
    pub(super) description: Option<Description>,
    handler: MethodRouter<Arc<Deployment>>,
}

impl Endpoint {
    /// A route of devices or relays, whose bodies `docs/protocol.md` describes, or a page.
    pub(super) fn bare<H, T>(method: Method, path: &str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<Deployment>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the table has plain methods");
        Self {
            method,
            path: path.to_owned(),
            access,
            description: None,
            handler: on(filter, handler),
        }
    }

    fn new<H, T, A>(method: Method, path: &str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<Deployment>> + Described<A>,
        T: 'static,
    {
        Self {
            description: Some(H::description()),
            ..Self::bare(method, path, access, handler)
        }
    }

    /// Says whether its requests may have a key, so that a repeated one is done once.
    pub(super) fn has_key(&self) -> bool {
        let of_person = matches!(self.access, Access::OwnAccount | Access::May(_));
        self.method == Method::POST && of_person
    }

    /// Connects its path with the gate, and the gate with the handler.
    pub(super) fn mount(
        self,
        router: Router<Arc<Deployment>>,
        deployment: &Arc<Deployment>,
    ) -> Router<Arc<Deployment>> {
        let gate = Gate {
            access: self.access,
            once: self.has_key(),
            tagged: self.method == Method::GET && self.description.is_some(),
            deployment: deployment.clone(),
        };
        let guarded = self.handler.route_layer(from_fn_with_state(gate, pass));
        router.route(&self.path, guarded)
    }
}

macro_rules! builders {
    ($($name:ident $method:ident $doc:literal)*) => {
        $(
            #[doc = $doc]
            pub(super) fn $name<H, T, A>(
                path: impl AsRef<str>,
                access: Access,
                handler: H,
            ) -> Endpoint
            where
                H: Handler<T, Arc<Deployment>> + Described<A>,
                T: 'static,
            {
                Endpoint::new(Method::$method, path.as_ref(), access, handler)
            }
        )*
    };
}

builders! {
    get GET "Makes a route that reads."
    post POST "Makes a route that makes or changes something."
    delete DELETE "Makes a route that removes something."
}

/// Returns the path of something below `path`.
pub(super) fn below(path: &str, rest: &str) -> String {
    format!("{path}/{rest}")
}

/// The gate of one handler.
#[derive(Debug, Clone)]
struct Gate {
    access: Access,
    /// A request with a key is done once.
    once: bool,
    /// Its answers have entity tags.
    tagged: bool,
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
    if gate.once {
        return idempotency::once(&gate.deployment, parts, body, handler).await;
    }
    if !gate.tagged {
        return Ok(handler.run(Request::from_parts(parts, body)).await);
    }
    let known = parts.headers.get(header::IF_NONE_MATCH).cloned();
    let response = handler.run(Request::from_parts(parts, body)).await;
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    let known = known.as_ref().and_then(|known| known.to_str().ok());
    Ok(etag::tagged(response, known).await)
}
