//! Logins that one machine asks for and a person grants on another one, by a code that the person
//! carries between them. [`crate::login_requests`] decides how they stand.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    LOGIN_WORDS_MAX, LoginAsked, LoginBeginRequest, LoginBegun, LoginCode, LoginPolled,
    LoginSecret, ProblemKind, UserCode,
};
use overlan_protocol::key::Secret;

use super::body::{Empty, Json, plain_text};
use super::caller::{Person, Source};
use super::changed::Changed;
use super::invitations::one_more_token;
use super::problem::Refusal;
use super::sessions;
use crate::auth::NamedSecret;
use crate::clock;
use crate::deployment::Deployment;
use crate::login_requests::{self as decide, INTERVAL, KEPT, LIFE, LoginGrant, PollBeat, Standing};
use crate::netmaps::OrgId;
use crate::store::login_requests::{self, AskedLogin};
use crate::store::people::{self, Home};
use crate::store::{StoreError, Tx, accounts};

/// Opens a request that a person grants by its code.
pub(super) async fn begin_by_code(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    Json(request): Json<LoginBeginRequest>,
) -> Result<Changed<LoginBegun>, Refusal> {
    let asker = AskingProgram::new(&request, source)?;
    one_more_token(&deployment, source)?;
    let mut tx = deployment.store.write().await?;
    let (asked, secret) = begin(&mut tx, asker, None, clock::wall()).await?;
    deployment.store.commit(tx).await?;
    let what = format!(
        "opened login request {} for {:?} at {source}",
        asked.id, asked.host
    );
    Ok(Changed::new(what, begun(&asked, secret)))
}

/// The machine that asks for a login.
#[derive(Debug)]
pub(super) struct AskingProgram {
    program: String,
    host: String,
    source: IpAddr,
}

impl AskingProgram {
    /// Checks what a program says of itself and its machine.
    pub(super) fn new(request: &LoginBeginRequest, source: IpAddr) -> Result<Self, Refusal> {
        let words = |what, text| plain_text(what, text, 1, LOGIN_WORDS_MAX);
        Ok(Self {
            program: words("the name of the program", &request.program)?,
            host: words("the name of the machine", &request.host)?,
            source,
        })
    }
}

/// Opens a request, if there may be one more; returns it with its secret, which is given to the
/// asking program alone. With `org` only people of that organisation can grant it.
pub(super) async fn begin(
    tx: &mut Tx,
    asker: AskingProgram,
    org: Option<OrgId>,
    now: UnixTime,
) -> Result<(AskedLogin, Secret), Refusal> {
    login_requests::prune(tx, now - KEPT).await?;
    let (of_source, all) = login_requests::count(tx, asker.source, now).await?;
    decide::one_more(of_source, all)
        .map_err(|full| Refusal::too_often(&full.to_string(), INTERVAL))?;
    let (named, secret) = NamedSecret::generate(SECRET_PREFIX);
    let mut asked = AskedLogin {
        id: named.id,
        code: UserCode::random(),
        program: asker.program,
        host: asker.host,
        source: asker.source,
        org,
        created: now,
        expires: now + LIFE,
    };
    loop {
        match login_requests::insert(tx, &named.digest, &asked).await {
            Err(StoreError::Conflict) => asked.code = UserCode::random(),
            done => break done?,
        }
    }
    Ok((asked, secret))
}

/// Returns what the asking program hears of its new request.
pub(super) fn begun(asked: &AskedLogin, secret: Secret) -> LoginBegun {
    LoginBegun {
        secret,
        code: asked.code.to_string(),
        expires: asked.expires,
        interval_secs: whole_secs(INTERVAL),
    }
}

/// Tells the asking program how its request stands; a granted one becomes a session.
pub(super) async fn poll(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    Json(request): Json<LoginSecret>,
) -> Result<Changed<LoginPolled>, Refusal> {
    let now = clock::wall();
    let mut tx = deployment.store.read().await?;
    let named = NamedSecret::parse(SECRET_PREFIX, &request.secret);
    let found = match &named {
        Some(named) => login_requests::of_secret(&mut tx, &named.id, &named.digest).await?,
        None => None,
    };
    drop(tx);
    let Some((asked, verdict)) = found else {
        one_more_token(&deployment, source)?;
        return Err(not_known());
    };
    match decide::standing(verdict, asked.expires, now) {
        Standing::Pending => {
            let beat = deployment.polls.lock().handle_poll(clock::now(), &asked.id);
            Ok(Changed::nothing(match beat {
                PollBeat::InTime(interval) => LoginPolled::Pending {
                    interval_secs: whole_secs(interval),
                },
                PollBeat::TooSoon(interval) => LoginPolled::SlowDown {
                    interval_secs: whole_secs(interval),
                },
            }))
        }
        Standing::Denied(reason) => Ok(Changed::nothing(LoginPolled::Denied { reason })),
        Standing::Expired => Ok(Changed::nothing(LoginPolled::Expired)),
        Standing::Approved(grant) => fetch(&deployment, &asked, grant, source).await,
    }
}

/// Ends a granted request and opens its session.
async fn fetch(
    deployment: &Deployment,
    asked: &AskedLogin,
    grant: LoginGrant,
    source: IpAddr,
) -> Result<Changed<LoginPolled>, Refusal> {
    let LoginGrant { org, account } = grant;
    let mut tx = deployment.store.write().await?;
    if !login_requests::take(&mut tx, &asked.id).await? {
        return Err(not_known());
    }
    deployment.polls.lock().forget(&asked.id);
    // The person may have left meanwhile.
    if people::role(&mut tx, org, account).await?.is_none() {
        deployment.store.commit(tx).await?;
        let what = format!("ended login request {}, whose person left", asked.id);
        let reason = "the person who granted it is not in the organisation any more".to_owned();
        return Ok(Changed::new(what, LoginPolled::Denied { reason }));
    }
    let home = Home {
        org,
        name: accounts::organisation_name(&mut tx, org).await?,
    };
    let (email, _) = accounts::email_and_password(&mut tx, account).await?;
    let login = sessions::open(&mut tx, account, &home, email, source).await?;
    deployment.store.commit(tx).await?;
    let what = format!(
        "{} logged in from {source} by login request {}",
        login.email, asked.id
    );
    Ok(Changed::new(what, LoginPolled::Approved { login }))
}

/// Ends a request for the program that asked.
pub(super) async fn cancel(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    Json(request): Json<LoginSecret>,
) -> Result<Changed<Empty>, Refusal> {
    let named = NamedSecret::parse(SECRET_PREFIX, &request.secret);
    let mut tx = deployment.store.write().await?;
    let found = match &named {
        Some(named) => login_requests::of_secret(&mut tx, &named.id, &named.digest).await?,
        None => None,
    };
    let Some((asked, _)) = found else {
        drop(tx);
        one_more_token(&deployment, source)?;
        return Err(not_known());
    };
    login_requests::take(&mut tx, &asked.id).await?;
    deployment.store.commit(tx).await?;
    deployment.polls.lock().forget(&asked.id);
    let what = format!("login request {} was taken back", asked.id);
    Ok(Changed::new(what, Empty {}))
}

/// Shows a person from where a login is asked.
pub(super) async fn look(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    person: Person,
    Json(request): Json<LoginCode>,
) -> Result<Changed<LoginAsked>, Refusal> {
    one_more_token(&deployment, source)?;
    let mut tx = deployment.store.read().await?;
    let asked = waiting(&mut tx, &request.code, person.org, clock::wall()).await?;
    Ok(Changed::nothing(shown(&asked)))
}

/// Grants a request: its program becomes the person who grants, in the organisation of the session.
pub(super) async fn approve(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    person: Person,
    Json(request): Json<LoginCode>,
) -> Result<Changed<LoginAsked>, Refusal> {
    one_more_token(&deployment, source)?;
    let (org, account) = (person.org, person.account);
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let asked = waiting(&mut tx, &request.code, org, now).await?;
    if !login_requests::approve(&mut tx, &asked.id, LoginGrant { org, account }, now).await? {
        return Err(not_open());
    }
    deployment.store.commit(tx).await?;
    let what = format!(
        "granted login request {} of {:?} at {}",
        asked.id, asked.host, asked.source
    );
    Ok(Changed::new(what, shown(&asked)))
}

/// Refuses a request.
pub(super) async fn deny(
    State(deployment): State<Arc<Deployment>>,
    Source(source): Source,
    person: Person,
    Json(request): Json<LoginCode>,
) -> Result<Changed<LoginAsked>, Refusal> {
    one_more_token(&deployment, source)?;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let asked = waiting(&mut tx, &request.code, person.org, now).await?;
    if !login_requests::deny(&mut tx, &asked.id, REFUSED, now).await? {
        return Err(not_open());
    }
    deployment.store.commit(tx).await?;
    let what = format!("refused login request {} of {:?}", asked.id, asked.host);
    Ok(Changed::new(what, shown(&asked)))
}

/// Returns the request of a code, if somebody of `org` may decide on it.
async fn waiting(
    tx: &mut Tx,
    code: &str,
    org: OrgId,
    now: UnixTime,
) -> Result<AskedLogin, Refusal> {
    let code: UserCode = code
        .parse()
        .map_err(|error| Refusal::bad_request(format!("the code is not understood: {error}")))?;
    let asked = login_requests::by_code(tx, code, org, now).await?;
    asked.ok_or_else(not_open)
}

fn shown(asked: &AskedLogin) -> LoginAsked {
    LoginAsked {
        code: asked.code.to_string(),
        program: asked.program.clone(),
        host: asked.host.clone(),
        source: asked.source.to_string(),
        asked: asked.created,
        expires: asked.expires,
    }
}

fn whole_secs(interval: std::time::Duration) -> u32 {
    u32::try_from(interval.as_secs()).unwrap_or(u32::MAX)
}

fn not_open() -> Refusal {
    Refusal::new(
        ProblemKind::NotFound,
        "no login waits under this code",
        "it was decided or taken back, or has expired after ten minutes; compare the code with the \
         one that is shown, or begin again: `overlan login --device-code`",
    )
}

fn not_known() -> Refusal {
    Refusal::new(
        ProblemKind::KeyUnknown,
        "this login request is not known",
        "it was fetched or taken back, or has expired; begin again: `overlan login --device-code`",
    )
}

/// The reason of a refusal that the asking program prints.
const REFUSED: &str = "the person who was shown the request refused it";

/// Prefix of the secrets of login requests.
const SECRET_PREFIX: &str = "ovq_";
