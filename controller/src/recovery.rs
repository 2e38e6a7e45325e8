//! Resets a password on the controller's own machine, without a login, in its data directory.

use std::num::NonZero;
use std::path::Path;

use overlan_protocol::key::Secret;

use crate::auth::password::{self, Hasher};
use crate::store::{Store, StoreError, accounts, sessions};

/// The reason why no password was set. One variant per thing the operator does differently.
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
    /// The password is not accepted.
    #[error("{0}")]
    Password(String),
    /// The database or the hash failed.
    #[error("cannot set the password: {0}")]
    Failed(String),
}

/// Sets the password of the account with this email in a controller's data directory and ends its
/// sessions; returns their number. A running controller uses both at once.
///
/// # Errors
/// If there is no such account, the password is not accepted, or the database fails.
pub async fn reset_password(data_dir: &Path, email: &str, new: &Secret) -> Result<u64, ResetError> {
    let failed = |error: &dyn std::fmt::Display| ResetError::Failed(error.to_string());
    let file = data_dir.join(crate::data_dir::DATABASE);
    // Opening would make one.
    if !file.is_file() {
        return Err(ResetError::NoDatabase(data_dir.display().to_string()));
    }
    let store = Store::open(&file).await.map_err(|error| failed(&error))?;
    let done = set(&store, email, new).await;
    store.close().await;
    done
}

async fn set(store: &Store, email: &str, new: &Secret) -> Result<u64, ResetError> {
    let failed = |error: &dyn std::fmt::Display| ResetError::Failed(error.to_string());
    let store_failed = |error: StoreError| failed(&error);
    let email = email.trim().to_lowercase();
    let mut tx = store.read().await.map_err(store_failed)?;
    let account = accounts::account_by_email(&mut tx, &email)
        .await
        .map_err(store_failed)?;
    let Some(account) = account else {
        let known = accounts::emails(&mut tx).await.map_err(store_failed)?;
        let known = match known.as_slice() {
            [] => "none, since the controller is not set up yet".to_owned(),
            known => known.join(", "),
        };
        return Err(ResetError::NoAccount { email, known });
    };
    let organisation = accounts::organisation_name(&mut tx, account.org)
        .await
        .map_err(store_failed)?;
    drop(tx);
    if let Some(objection) = password::objection(new, &email, &organisation) {
        return Err(ResetError::Password(objection));
    }
    let hasher = Hasher::new(NonZero::<usize>::MIN).map_err(|error| failed(&error))?;
    let hash = hasher.hash(new).await.map_err(|error| failed(&error))?;
    let mut tx = store.write().await.map_err(store_failed)?;
    accounts::set_password(&mut tx, account.id, &hash)
        .await
        .map_err(store_failed)?;
    let ended = sessions::end_all(&mut tx, account.id, None)
        .await
        .map_err(store_failed)?;
    store.commit(tx).await.map_err(store_failed)?;
    Ok(ended)
}
