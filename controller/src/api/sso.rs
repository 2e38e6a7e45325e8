//! Logins by the identity provider of an organisation: a program begins one, a person's browser
//! goes to the provider and comes back, and the program's login request is approved.
//! [`crate::oidc`] decides whom the provider names, [`crate::identities`] whose login that is;
//! `page` writes the pages.
//!
//! ```text
//! program ──POST──> ticket, code        browser ──start──> page with the code, cookie
//!    └── polls                            └──go──> provider ──callback──> approved | denied
//! ```
//!
//! A person who is lured to the page of a stranger's login sees a code that stands on no terminal
//! of theirs, and there is no way to the provider but by the link of that page: it is good in the
//! browser alone that was shown it.

mod page;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{ProblemKind, SingleSignOnRequest, SingleSignOnResponse, path};
use overlan_protocol::key::{KEY_LEN, Secret, random_bytes};
use serde::Deserialize;

use super::Response;
use super::body::Json;
use super::caller::Source;
use super::changed::Changed;
use super::identity_provider::{none, redirect_uri, secret_lost, silent};
use super::invitations::one_more_token;
use super::login_requests::{self, AskingProgram};
use super::problem::Refusal;
use crate::auth::digest;
use crate::clock;
use crate::deployment::Deployment;
use crate::identities::{self, ArriveError, client};
use crate::login_requests::LoginGrant;
use crate::netmaps::OrgId;
use crate::oidc::{self, Answer, Client, Code, ProviderError, Shown, Ties};
use crate::people::sign_in::{SignIn, SignInError};
use crate::store::accounts::{self, Digest};
use crate::store::identity_providers::{self, Away, IdentityProvider, SignOn};
use crate::store::login_requests::AskedLogin;
use crate::store::{self, StoreError, Tx};

/// Begins a login by the provider of an organisation.
pub(super) async fn begin(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    Json(request): Json<SingleSignOnRequest>,
) -> Result<Changed<SingleSignOnResponse>, Refusal> {
    let asker = AskingProgram::new(&request.asker, source)?;
    one_more_token(&deployment, source)?;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let org = organisation(&mut tx, request.organisation.as_deref()).await?;
    let (asked, secret) = login_requests::begin(&mut tx, asker, Some(org), now).await?;
    let ticket = Secret::new(&random_text());
    let sign_on = SignOn {
        org,
        login_request: asked.id.clone(),
        expires: asked.expires,
    };
    let ticket_digest = digest(ticket.reveal());
    identity_providers::begin(&mut tx, &ticket_digest, &sign_on, now).await?;
    deployment.store.commit(tx).await?;
    let (origin, start) = (&deployment.origin, path::SSO_START);
    Ok(Changed::nothing(SingleSignOnResponse {
        request: login_requests::begun(&asked, secret),
        url: format!("{origin}{start}?ticket={}", ticket.reveal()),
    }))
}

/// Finds the organisation whose provider a stranger means. Names of organisations are not given
/// away.
async fn organisation(tx: &mut Tx, wanted: Option<&str>) -> Result<OrgId, Refusal> {
    let wanted = wanted.map(str::trim);
    let found = identity_providers::organisations(tx, wanted, 2).await?;
    let by_number = |org: &OrgId| wanted == Some(org.0.to_string().as_str());
    match (found.as_slice(), wanted) {
        ([], Some(_)) => Err(Refusal::new(
            ProblemKind::NotFound,
            "no organisation of that name or number has an identity provider",
            "check --organisation; without --sso, `overlan login` asks for a password",
        )),
        ([], None) => Err(none()),
        ([first, ..], _) if by_number(first) => Ok(*first),
        ([only], _) => Ok(*only),
        _ => Err(Refusal::new(
            ProblemKind::ChooseOrganisation,
            "several organisations have an identity provider",
            "name one: `overlan login --sso --organisation NAME`; its number does, too",
        )),
    }
}

/// The part of the page's address that names the login.
#[derive(Debug, Deserialize)]
pub(super) struct Ticketed {
    ticket: String,
    #[serde(default)]
    confirm: String,
}

/// Shows the person which login it is, in the browser that will be sent to the provider.
pub(super) async fn start(
    State(deployment): State<Arc<Deployment>>,
    headers: HeaderMap,
    query: Result<Query<Ticketed>, QueryRejection>,
) -> Response {
    let shown = async {
        let Query(Ticketed { ticket, .. }) = query.map_err(|_| not_known())?;
        let ticket_digest = digest(&ticket);
        let mut tx = deployment.store.read().await?;
        let (sign_on, login) = under_way(&mut tx, &ticket_digest).await?;
        let name = accounts::organisation_name(&mut tx, sign_on.org).await?;
        drop(tx);
        let cookie = page::cookie(&headers).unwrap_or_else(random_text);
        let confirm = confirmation(&cookie, &ticket);
        let link = format!("{}?ticket={ticket}&confirm={confirm}", path::SSO_GO);
        Ok(page::begin(&name, &login, &link, &cookie))
    };
    page::answer(&headers, shown.await)
}

/// Sends the browser on to the provider.
pub(super) async fn go(
    State(deployment): State<Arc<Deployment>>,
    headers: HeaderMap,
    query: Result<Query<Ticketed>, QueryRejection>,
) -> Response {
    let sent = async {
        let Query(Ticketed { ticket, confirm }) = query.map_err(|_| not_known())?;
        let cookie = page::cookie(&headers).ok_or_else(not_known)?;
        if confirmation(&cookie, &ticket) != confirm {
            return Err(not_known());
        }
        let ticket = digest(&ticket);
        let mut tx = deployment.store.read().await?;
        let (sign_on, _) = under_way(&mut tx, &ticket).await?;
        let provider = provider_of(&mut tx, sign_on.org).await?;
        drop(tx);
        let client = client(&deployment.sealer, &provider).ok_or_else(secret_lost)?;
        let endpoints = client.endpoints(&deployment.issuers).await;
        let endpoints = endpoints.map_err(|error| silent(&error))?;
        let ties = Ties::random();
        let redirect = redirect_uri(&deployment);
        let address = oidc::address(&endpoints, &client.client_id, &redirect, &ties);
        let away = Away {
            browser: digest(&cookie),
            state: digest(&ties.state),
            nonce: ties.nonce,
            verifier: ties.verifier,
        };
        let mut tx = deployment.store.write().await?;
        identity_providers::send_away(&mut tx, &ticket, &away).await?;
        deployment.store.commit(tx).await?;
        page::redirect(&address)
    };
    page::answer(&headers, sent.await)
}

/// The part of the address with which the provider sends a browser back.
#[derive(Debug, Deserialize)]
pub(super) struct Returned {
    #[serde(default)]
    state: String,
    code: Option<String>,
    /// The issuer, as it names itself (RFC 9207).
    iss: Option<String>,
    error: Option<String>,
}

/// Takes a browser back, and approves the login request of the program if the provider names
/// somebody who has a login.
pub(super) async fn callback(
    State(deployment): State<Arc<Deployment>>,
    headers: HeaderMap,
    query: Result<Query<Returned>, QueryRejection>,
) -> Response {
    let came = async {
        let Query(returned) = query.map_err(|_| not_known())?;
        let cookie = page::cookie(&headers).ok_or_else(not_known)?;
        let now = clock::wall();
        let mut tx = deployment.store.write().await?;
        let (state, browser) = (digest(&returned.state), digest(&cookie));
        let came = identity_providers::come_back(&mut tx, &state, &browser, now).await?;
        deployment.store.commit(tx).await?;
        let (sign_on, nonce, verifier) = came.ok_or_else(not_known)?;
        match logged_in(&deployment, &sign_on, &returned, (&nonce, &verifier)).await {
            Ok(email) => Ok(page::done(&email)),
            Err(refusal) => {
                let mut tx = deployment.store.write().await?;
                let (id, why) = (&sign_on.login_request, refusal.text());
                store::login_requests::deny(&mut tx, id, &why, clock::wall()).await?;
                deployment.store.commit(tx).await?;
                Err(refusal)
            }
        }
    };
    page::answer(&headers, came.await)
}

/// Finds out who logged in at the provider, and approves the login request; returns the email.
async fn logged_in(
    deployment: &Deployment,
    sign_on: &SignOn,
    returned: &Returned,
    (nonce, verifier): (&str, &Secret),
) -> Result<String, Refusal> {
    let mut tx = deployment.store.read().await?;
    let provider = provider_of(&mut tx, sign_on.org).await?;
    drop(tx);
    let client = client(&deployment.sealer, &provider).ok_or_else(secret_lost)?;
    let code = answered(deployment, &client, returned).await?;
    let redirect_uri = redirect_uri(deployment);
    let code = Code {
        code,
        verifier,
        nonce,
        redirect_uri: &redirect_uri,
    };
    let answer = client.redeem(&deployment.issuers, &code).await;
    let answer = answer.map_err(|error| refused(&error))?;
    let password = password_of_new(deployment, &provider, &answer).await?;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let arrived = identities::arrive(
        &mut tx,
        &deployment.sealer,
        &provider,
        &answer,
        &password,
        now,
    );
    let account = arrived.await?;
    let org = sign_on.org;
    let (id, grant) = (&sign_on.login_request, LoginGrant { org, account });
    if !store::login_requests::approve(&mut tx, id, grant, now).await? {
        return Err(not_known());
    }
    let email = accounts::email(&mut tx, account).await?.unwrap_or_default();
    deployment.store.commit(tx).await?;
    tracing::info!(
        email,
        issuer = provider.issuer,
        "logged in by the identity provider"
    );
    Ok(email)
}

/// Returns the code that the provider sent, if it was this provider.
async fn answered<'a>(
    deployment: &Deployment,
    client: &Client,
    returned: &'a Returned,
) -> Result<&'a str, Refusal> {
    let endpoints = client.endpoints(&deployment.issuers).await;
    let endpoints = endpoints.map_err(|error| silent(&error))?;
    match &returned.iss {
        Some(iss) if iss != client.issuer.text() => {
            let text = format!("another issuer answered: {}", Shown::new(iss));
            return Err(mixed_up(&text));
        }
        None if endpoints.names_itself => {
            return Err(mixed_up("the answer does not name its issuer"));
        }
        Some(_) | None => {}
    }
    if let Some(error) = &returned.error {
        return Err(Refusal::new(
            ProblemKind::Forbidden,
            &format!(
                "the identity provider refused the login: {}",
                Shown::new(error)
            ),
            "ask who runs it, and begin again: `overlan login --sso`",
        ));
    }
    returned.code.as_deref().ok_or_else(not_known)
}

/// Returns the hash of a password that nobody knows, for somebody who has no account yet.
async fn password_of_new(
    deployment: &Deployment,
    provider: &IdentityProvider,
    answer: &Answer,
) -> Result<String, Refusal> {
    let mut tx = deployment.store.read().await?;
    let login = identities::whose_login(&mut tx, provider, answer, clock::wall()).await;
    drop(tx);
    match login? {
        SignIn::Known(_) | SignIn::Bind(_) => Ok(String::new()),
        SignIn::Join { .. } => Ok(deployment.hasher.hash(&Secret::new(&random_text())).await?),
    }
}

/// Returns a login that has begun and has not ended, with its request.
async fn under_way(tx: &mut Tx, ticket: &Digest) -> Result<(SignOn, AskedLogin), Refusal> {
    let now: UnixTime = clock::wall();
    let sign_on = identity_providers::by_ticket(tx, ticket, now).await?;
    let sign_on = sign_on.ok_or_else(not_known)?;
    let login = store::login_requests::get(tx, &sign_on.login_request, now).await?;
    Ok((sign_on, login.ok_or_else(not_known)?))
}

async fn provider_of(tx: &mut Tx, org: OrgId) -> Result<IdentityProvider, Refusal> {
    let provider = identity_providers::get(tx, org).await?;
    provider.ok_or_else(none)
}

/// Returns the text that only the page shown to one browser has.
fn confirmation(cookie: &str, ticket: &str) -> String {
    BASE64URL_NOPAD.encode(&digest(format!("{cookie}\n{ticket}")))
}

fn random_text() -> String {
    BASE64URL_NOPAD.encode(&random_bytes::<KEY_LEN>())
}

fn refused(error: &ProviderError) -> Refusal {
    match error {
        ProviderError::Identity(error) => Refusal::new(
            ProblemKind::TokenRefused,
            &format!("the identity provider's token is refused: {error}"),
            "begin again: `overlan login --sso`; if it stays, `overlan admin identity-provider \
             show` and the provider's settings do not fit",
        ),
        ProviderError::Ended => Refusal::new(
            ProblemKind::Forbidden,
            &format!("the identity provider does not take the login back: {error}"),
            "begin again: `overlan login --sso`",
        ),
        ProviderError::Issuer(_)
        | ProviderError::Endpoints(_)
        | ProviderError::Refused(_)
        | ProviderError::Form(_) => silent(error),
    }
}

impl From<ArriveError> for Refusal {
    fn from(error: ArriveError) -> Self {
        let next = match &error {
            ArriveError::NoRoom(error) => return (*error).into(),
            ArriveError::Store(StoreError::Conflict) => {
                "somebody else came in with it just now; begin again: `overlan login --sso`"
            }
            ArriveError::Store(_) => return Self::internal(&error),
            ArriveError::SignIn(SignInError::NoVerifiedEmail) => {
                "the provider has to verify the email, and to send the claims email and \
                 email_verified"
            }
            ArriveError::SignIn(SignInError::Domain(_) | SignInError::NotInvited(_)) => {
                "an admin invites people: `overlan admin invitation create EMAIL`; then begin again"
            }
            ArriveError::SignIn(SignInError::Elsewhere(_)) => {
                "an admin invites the account (`overlan admin invitation create EMAIL`), and its \
                 person accepts with the password"
            }
            ArriveError::SignIn(SignInError::OtherSubject(_)) => {
                "if the person has a new account at the provider, an admin removes the person here \
                 and invites again"
            }
        };
        Self::new(ProblemKind::Forbidden, &error.to_string(), next)
    }
}

fn mixed_up(what: &str) -> Refusal {
    Refusal::new(
        ProblemKind::Forbidden,
        what,
        "somebody may have mixed two logins up; begin again: `overlan login --sso`",
    )
}

/// The login is over, was begun in another browser, or never was.
fn not_known() -> Refusal {
    Refusal::bad_request(
        "this login is not known here: it is over, or was begun in another browser; begin again: \
         `overlan login --sso`",
    )
}
