//! Ways back on the controller's own machine, without a login, in its data directory: a new
//! password, and a place as owner.

use std::num::NonZero;
use std::path::Path;

use overlan_protocol::api::Role;
use overlan_protocol::key::Secret;

use crate::auth::password::{self, Hasher, PasswordError};
use crate::clock;
use crate::people::choice::{self, ChoiceError};
use crate::store::people::{Home, Place};
use crate::store::{LIST_MAX, Store, StoreError, Tx, accounts, invitations, people, sessions};

/// The reason why nothing was recovered. One variant per thing the operator does differently.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// The directory holds no controller.
    #[error(
        "{0} does not hold a controller's database; give the --data-dir of `overlan controller \
         serve`"
    )]
    NoDatabase(String),
    /// No account has this email.
    #[error("no account has the email {email:?}; the accounts are: {known}")]
    NoAccount {
        /// The email, as it was given.
        email: String,
        /// The emails of all accounts.
        known: String,
    },
    /// The controller has several organisations, or none of this name.
    #[error("{0}")]
    Organisation(String),
    /// The password is not accepted.
    #[error("{0}")]
    Password(String),
    /// The database or the hash failed.
    #[error("cannot set the password: {0}")]
    Failed(String),
}

impl From<StoreError> for ResetError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<PasswordError> for ResetError {
    fn from(error: PasswordError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The new owner of an organisation; see [`recover_owner`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredOwner {
    /// The email of the account, in lower case.
    pub email: String,
    /// Name of the organisation.
    pub organisation: String,
    /// The account was made; otherwise it has the new password.
    pub is_new: bool,
    /// Sessions of the account that ended.
    pub ended: u64,
}

/// Sets the password of the account with this email in a controller's data directory and ends its
/// sessions; returns their number. A running controller uses both at once.
///
/// # Errors
/// If there is no such account, the password is not accepted, or the database fails.
pub async fn reset_password(data_dir: &Path, email: &str, new: &Secret) -> Result<u64, ResetError> {
    let store = open(data_dir).await?;
    let done = set(&store, email, new).await;
    store.close().await;
    done
}

/// Makes the account with this email an owner of an organisation in a controller's data directory,
/// sets its password and ends its sessions; makes the account if there is none. `organisation` is a
/// name or number, needed where there are several. A running controller uses all of it at once.
///
/// # Errors
/// If there is no such organisation, the email or the password is not accepted, or the database
/// fails.
pub async fn recover_owner(
    data_dir: &Path,
    email: &str,
    organisation: Option<&str>,
    new: &Secret,
) -> Result<RecoveredOwner, ResetError> {
    let store = open(data_dir).await?;
    let done = recover(&store, email, organisation, new).await;
    store.close().await;
    done
}

async fn open(data_dir: &Path) -> Result<Store, ResetError> {
    let file = data_dir.join(crate::data_dir::DATABASE);
    // Opening would make one.
    if !file.is_file() {
        return Err(ResetError::NoDatabase(data_dir.display().to_string()));
    }
    Ok(Store::open(&file).await?)
}

async fn set(store: &Store, email: &str, new: &Secret) -> Result<u64, ResetError> {
    let email = email.trim().to_lowercase();
    let mut tx = store.read().await?;
    let Some(account) = accounts::account_by_email(&mut tx, &email).await? else {
        let known = accounts::emails(&mut tx).await?;
        let known = match known.as_slice() {
            [] => "none, since the controller is not set up yet".to_owned(),
            known => known.join(", "),
        };
        return Err(ResetError::NoAccount { email, known });
    };
    let homes = people::homes(&mut tx, account.id).await?;
    drop(tx);
    let hash = hashed(new, &email, &homes).await?;
    let mut tx = store.write().await?;
    let ended = replace_password(&mut tx, account.id, &hash).await?;
    store.commit(tx).await?;
    Ok(ended)
}

async fn recover(
    store: &Store,
    email: &str,
    wanted: Option<&str>,
    new: &Secret,
) -> Result<RecoveredOwner, ResetError> {
    let email = email.trim().to_lowercase();
    let mut tx = store.read().await?;
    let all = people::organisations(&mut tx, LIST_MAX).await?;
    drop(tx);
    let home = choice::of_login(&all, wanted).map_err(unclear)?;
    let hash = hashed(new, &email, std::slice::from_ref(home)).await?;
    let now = clock::wall();
    let mut tx = store.write().await?;
    let known = accounts::account_by_email(&mut tx, &email).await?;
    let (account, ended) = match &known {
        Some(known) => (known.id, replace_password(&mut tx, known.id, &hash).await?),
        None => (
            accounts::insert_account(&mut tx, &email, &hash, now).await?,
            0,
        ),
    };
    let place = Place {
        org: home.org,
        account,
        role: Role::Owner,
    };
    match people::role(&mut tx, home.org, account).await? {
        Some(_) => people::set_role(&mut tx, place).await?,
        None => people::insert(&mut tx, place, now).await?,
    }
    store.commit(tx).await?;
    Ok(RecoveredOwner {
        email,
        organisation: home.name.clone(),
        is_new: known.is_none(),
        ended,
    })
}

/// Returns the sentence for an operator whose choice of an organisation is not clear.
fn unclear(error: ChoiceError) -> ResetError {
    ResetError::Organisation(match error {
        ChoiceError::None => {
            "the controller is not set up yet: `overlan controller init` makes its owner".to_owned()
        }
        ChoiceError::Several(known) | ChoiceError::Ambiguous(known) => {
            format!("give --organisation with the name or number of one: {known}")
        }
        ChoiceError::Unknown { wanted, known } => {
            format!("there is no organisation {wanted:?}; there are: {known}")
        }
    })
}

/// Returns the hash of a password that is accepted.
async fn hashed(new: &Secret, email: &str, homes: &[Home]) -> Result<String, ResetError> {
    let names = homes.iter().map(|home| home.name.as_str());
    if let Some(objection) = password::objection(new, email, names) {
        return Err(ResetError::Password(objection));
    }
    let hasher = Hasher::new(NonZero::<usize>::MIN)?;
    Ok(hasher.hash(new).await?)
}

/// Sets a password, and ends all that the old one opened.
async fn replace_password(tx: &mut Tx, account: i64, hash: &str) -> Result<u64, StoreError> {
    accounts::set_password(tx, account, hash).await?;
    invitations::end_reset(tx, account).await?;
    sessions::end_all(tx, account, None).await
}
