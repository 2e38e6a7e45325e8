//! Brings what identity providers say of people into the database: at a login, and again and again
//! afterwards. [`crate::people::sign_in`] decides whose login it is, [`crate::oidc`] whom an answer
//! names and when it is asked for.

use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::api::Role;
use overlan_protocol::key::Secret;
use tokio::task::JoinSet;

use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::{Fact, OrgId};
use crate::oidc::{Answer, Client, Groups, IssuerUrl, ProviderError, Refreshing};
use crate::people::rank::may_invite;
use crate::people::room::{self, NoRoomFor};
use crate::people::sign_in::{self, Comer, EmailHolder, SignIn, SignInError};
use crate::sealing::Sealer;
use crate::store::identities::{self, IdentityRow, Whose};
use crate::store::identity_providers::{self, IdentityProvider};
use crate::store::people::{self, Place};
use crate::store::{StoreError, Tx, accounts, changes, invitations, sessions};

/// The reason why nobody was logged in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArriveError {
    /// There is no login for whom the provider names.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The organisation is full.
    #[error(transparent)]
    NoRoom(#[from] NoRoomFor),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns this controller as the provider of an organisation knows it; `None` if the secret cannot
/// be opened. The address was checked when it was set.
pub(crate) fn client(sealer: &Sealer, provider: &IdentityProvider) -> Option<Client> {
    let secret = sealer.open(&client_place(provider.org), &provider.sealed_secret);
    Some(Client {
        issuer: IssuerUrl::parse(&provider.issuer).ok()?,
        ca: provider.issuer_ca.clone(),
        client_id: provider.client_id.clone(),
        secret: secret.ok()?,
        groups_claim: provider.groups_claim.clone(),
    })
}

/// The place for which a client's secret is sealed.
pub(crate) fn client_place(org: OrgId) -> String {
    format!("identity_providers/{}", org.0)
}

/// Decides whose login it is, as `tx` sees the people.
pub(crate) async fn whose_login(
    tx: &mut Tx,
    provider: &IdentityProvider,
    answer: &Answer,
    now: UnixTime,
) -> Result<SignIn, ArriveError> {
    let org = provider.org;
    let named = &answer.identity;
    let email = named.verified_email.as_deref();
    let bound = identities::bound(tx, org, &provider.issuer, &named.subject).await?;
    let account = match email {
        Some(email) => accounts::account_by_email(tx, email).await?,
        None => None,
    };
    let holder = match account {
        None => None,
        Some(account) => Some(EmailHolder {
            account: account.id,
            is_here: people::role(tx, org, account.id).await?.is_some(),
            is_bound: identities::get(tx, (org, account.id)).await?.is_some(),
        }),
    };
    let invitation = match email {
        Some(email) => invited(tx, org, email, now).await?,
        None => None,
    };
    let comer = Comer {
        bound,
        verified_email: email,
        holder,
        invited_as: invitation.map(|(_, role)| role),
        domains: &provider.domains,
    };
    Ok(sign_in::decide(&comer)?)
}

/// Returns an open invitation for an email, whose maker may still give its role.
async fn invited(
    tx: &mut Tx,
    org: OrgId,
    email: &str,
    now: UnixTime,
) -> Result<Option<(String, Role)>, StoreError> {
    for invitation in invitations::open_for(tx, org, email, now).await? {
        let Some(by) = invitation.by else { continue };
        let by = people::role(tx, org, by).await?;
        if by.is_some_and(|by| may_invite(by, invitation.role).is_ok()) {
            return Ok(Some((invitation.id, invitation.role)));
        }
    }
    Ok(None)
}

/// Writes the login of somebody whom the provider named, and returns the account. `password` is the
/// hash for a new account, which nobody knows a password for.
pub(crate) async fn arrive(
    tx: &mut Tx,
    sealer: &Sealer,
    provider: &IdentityProvider,
    answer: &Answer,
    password: &str,
    now: UnixTime,
) -> Result<i64, ArriveError> {
    let org = provider.org;
    let account = match whose_login(tx, provider, answer, now).await? {
        SignIn::Known(account) | SignIn::Bind(account) => account,
        SignIn::Join { role, invited: by } => {
            room::one_more_person(people::count(tx, org).await?)?;
            let email = answer.identity.verified_email.as_deref();
            let email = email.unwrap_or_default();
            if by && let Some((id, _)) = invited(tx, org, email, now).await? {
                invitations::accept(tx, &id, now).await?;
            }
            let account = accounts::insert_account(tx, email, password, now).await?;
            people::insert(tx, Place { org, account, role }, now).await?;
            changes::append(tx, org, None, &Fact::Policy, now).await?;
            account
        }
    };
    note(tx, sealer, provider, (org, account), answer, now).await?;
    Ok(account)
}

/// Writes what the provider said of a person. Groups that changed are a change of policy, as a role
/// is.
async fn note(
    tx: &mut Tx,
    sealer: &Sealer,
    provider: &IdentityProvider,
    whose: Whose,
    answer: &Answer,
    now: UnixTime,
) -> Result<(), StoreError> {
    let before = identities::get(tx, whose).await?;
    let kept = before.as_ref().and_then(|it| it.sealed_refresh.clone());
    let refresh = answer.refresh.as_ref();
    let sealed = refresh.map(|token| sealer.seal(&refresh_place(whose), token));
    let row = IdentityRow {
        whose,
        issuer: provider.issuer.clone(),
        subject: answer.identity.subject.clone(),
        groups: answer.identity.groups.clone(),
        heard: now,
        sealed_refresh: sealed.or(kept),
    };
    let changed = before.map_or_else(Groups::default, |it| it.groups) != row.groups;
    identities::put(tx, &row).await?;
    if changed {
        changes::append(tx, whose.0, None, &Fact::Policy, now).await?;
    }
    Ok(())
}

fn refresh_place((org, account): Whose) -> String {
    format!("identities/{}/{account}", org.0)
}

/// Asks the providers of all organisations about their people, as [`Refreshing`] says. Ends with
/// the controller.
pub(crate) async fn keep_groups(deployment: Arc<Deployment>) {
    let every = deployment.timings.groups_every;
    let mut refreshing = Refreshing::new(every);
    let mut questions: JoinSet<(Whose, bool)> = JoinSet::new();
    loop {
        match follow(&deployment, &mut refreshing).await {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "cannot read whose groups are known"),
        }
        for whose in refreshing.due(clock::now()) {
            let deployment = deployment.clone();
            questions.spawn(async move { (whose, ask(&deployment, whose).await) });
        }
        let look_again = clock::now() + every / LOOKS;
        let next = refreshing.deadline().unwrap_or(look_again).min(look_again);
        tokio::select! {
            () = deployment.stop.cancelled() => return,
            () = tokio::time::sleep_until(next.into()) => {}
            Some(Ok((whose, heard))) = questions.join_next() => match heard {
                true => refreshing.handle_heard(clock::now(), clock::wall(), whose),
                false => refreshing.handle_silence(clock::now(), whose),
            },
        }
    }
}

/// Reads who is to be asked about, and empties the groups that nobody has confirmed for too long.
async fn follow(deployment: &Deployment, refreshing: &mut Refreshing) -> Result<(), StoreError> {
    let mut tx = deployment.store.read().await?;
    let known = identities::all(&mut tx).await?;
    drop(tx);
    refreshing.follow(clock::now(), known);
    for whose in refreshing.forgotten(clock::wall()) {
        let mut tx = deployment.store.write().await?;
        if empty(&mut tx, whose, clock::wall()).await? {
            deployment.store.commit(tx).await?;
            let org = whose.0.0;
            tracing::warn!(
                org,
                account = whose.1,
                "an identity provider has not answered for an hour: the person's groups end"
            );
        }
    }
    Ok(())
}

/// Takes the groups from a person; says whether there were any.
async fn empty(tx: &mut Tx, whose: Whose, now: UnixTime) -> Result<bool, StoreError> {
    let Some(row) = identities::get(tx, whose).await? else {
        return Ok(false);
    };
    if row.groups == Groups::default() {
        return Ok(false);
    }
    let emptied = IdentityRow {
        groups: Groups::default(),
        ..row
    };
    identities::put(tx, &emptied).await?;
    changes::append(tx, whose.0, None, &Fact::Policy, now).await?;
    Ok(true)
}

/// Asks about one person; says whether the provider was heard.
async fn ask(deployment: &Deployment, whose: Whose) -> bool {
    let asked = async {
        let mut tx = deployment.store.read().await?;
        let provider = identity_providers::get(&mut tx, whose.0).await?;
        let row = identities::get(&mut tx, whose).await?;
        drop(tx);
        let (Some(provider), Some(row)) = (provider, row) else {
            return Ok(false);
        };
        let client = client(&deployment.sealer, &provider);
        let refresh = opened(&deployment.sealer, &row);
        let (Some(client), Some(refresh)) = (client, refresh) else {
            return Ok(false);
        };
        let asked = client.refresh(&deployment.issuers, &refresh, &row.subject);
        match asked.await {
            Ok(answer) => heard(deployment, &provider, &row, &answer)
                .await
                .map(|()| true),
            Err(ProviderError::Ended) => ended(deployment, &row).await.map(|()| true),
            Err(error) => {
                let (org, account) = (whose.0.0, whose.1);
                tracing::debug!(%error, org, account, "an identity provider says nothing");
                Ok(false)
            }
        }
    };
    asked.await.unwrap_or_else(|error: StoreError| {
        tracing::error!(%error, "cannot write what an identity provider said");
        false
    })
}

fn opened(sealer: &Sealer, row: &IdentityRow) -> Option<Secret> {
    let sealed = row.sealed_refresh.as_ref()?;
    sealer.open(&refresh_place(row.whose), sealed).ok()
}

/// Writes an answer. One that says nothing new is only written now and then.
async fn heard(
    deployment: &Deployment,
    provider: &IdentityProvider,
    row: &IdentityRow,
    answer: &Answer,
) -> Result<(), StoreError> {
    let now = clock::wall();
    let is_new = answer.identity.groups != row.groups || answer.refresh.is_some();
    if !is_new && now < row.heard + NOTED_EVERY {
        return Ok(());
    }
    let mut tx = deployment.store.write().await?;
    // A login, or the end of the person's place, may have come meanwhile.
    let still = identities::get(&mut tx, row.whose).await?;
    if still.is_some_and(|still| still.subject == row.subject) {
        note(
            &mut tx,
            &deployment.sealer,
            provider,
            row.whose,
            answer,
            now,
        )
        .await?;
        deployment.store.commit(tx).await?;
    }
    Ok(())
}

/// The provider does not know the person's token any more: the person's logins here end with it,
/// and so do the groups.
async fn ended(deployment: &Deployment, row: &IdentityRow) -> Result<(), StoreError> {
    let now = clock::wall();
    let (org, account) = row.whose;
    let mut tx = deployment.store.write().await?;
    let still = identities::get(&mut tx, row.whose).await?;
    // A login that came meanwhile brought another token.
    let Some(still) = still.filter(|still| still.sealed_refresh == row.sealed_refresh) else {
        return Ok(());
    };
    empty(&mut tx, row.whose, now).await?;
    let without = IdentityRow {
        groups: Groups::default(),
        heard: now,
        sealed_refresh: None,
        ..still
    };
    identities::put(&mut tx, &without).await?;
    let logins = sessions::end_in(&mut tx, org, account).await?;
    let email = accounts::email(&mut tx, account).await?.unwrap_or_default();
    deployment.store.commit(tx).await?;
    tracing::info!(
        email,
        logins,
        "the identity provider has ended the login of a person; all logins here ended with it"
    );
    Ok(())
}

/// Looks at who is to be asked about between two questions: a login is followed from then on.
const LOOKS: u32 = 6;

/// The time between two notes of an answer that says nothing new: each is a write to the disk. So
/// much less than an hour groups count after a restart of a controller.
const NOTED_EVERY: Duration = Duration::from_secs(300);
