//! Passwords: decides which ones are accepted, hashes them, and limits how many are hashed at once.

use std::num::NonZero;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use overlan_protocol::api::{PASSWORD_MAX, PASSWORD_MIN};
use overlan_protocol::key::{Secret, random_bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The reason why a password was not hashed or compared. One variant per thing the caller does
/// differently.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Too many hashes wait already.
    #[error("too many people log in at once")]
    Busy,
    /// The hash function failed, or the stored text is not a hash.
    #[error("hashing failed: {0}")]
    Failed(String),
}

/// The kind of caller that wants a password compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Nothing vouches for the caller.
    Stranger,
    /// A session, a device or the address vouches for the caller.
    Known,
}

/// Hashes passwords with argon2id on blocking threads, a given number at once.
#[derive(Debug)]
pub(crate) struct Hasher {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The part of these that strangers may take, so that many strangers leave some for known
    /// callers.
    strangers: Arc<Semaphore>,
    /// Compared with if no account has the email, so that the answer takes the same time.
    dummy: String,
}

impl Hasher {
    /// Makes a hasher, which hashes one password itself, for the comparison that never succeeds.
    pub(crate) fn new(at_once: NonZero<usize>) -> Result<Self, PasswordError> {
        let at_once = at_once.get();
        Ok(Self {
            running: Arc::new(Semaphore::new(at_once)),
            waiting: Arc::new(Semaphore::new(at_once + WAITING_MAX)),
            strangers: Arc::new(Semaphore::new(STRANGERS_WAITING_MAX)),
            dummy: hash_now("no account has this password")?,
        })
    }

    /// Returns the PHC string of a password.
    pub(crate) async fn hash(&self, password: &Secret) -> Result<String, PasswordError> {
        let password = password.clone();
        self.run(None, move || hash_now(password.reveal())).await
    }

    /// Decides whether `stored` was made of `password`; without `stored` it does the same work, and
    /// the answer is no.
    pub(crate) async fn verify(
        &self,
        password: &Secret,
        stored: Option<String>,
        asker: Asker,
    ) -> Result<bool, PasswordError> {
        let share = match asker {
            Asker::Known => None,
            Asker::Stranger => {
                let share = self.strangers.clone().try_acquire_owned();
                Some(share.map_err(|_| PasswordError::Busy)?)
            }
        };
        let password = password.clone();
        let exists = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy.clone());
        let fits = self
            .run(share, move || {
                let password = password.reveal().as_bytes();
                match argon2()?.verify_password(password, stored.as_str()) {
                    Ok(()) => Ok(true),
                    Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                    Err(error) => Err(PasswordError::Failed(error.to_string())),
                }
            })
            .await?;
        Ok(fits && exists)
    }

    async fn run<T: Send + 'static>(
        &self,
        share: Option<OwnedSemaphorePermit>,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        // All permits travel with the work: a caller that goes away does not make room for more
        // hashes at once.
        let place = self.waiting.clone().try_acquire_owned();
        let place = place.map_err(|_| PasswordError::Busy)?;
        let turn = self.running.clone().acquire_owned().await;
        let turn = turn.map_err(|_| PasswordError::Busy)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((turn, place, share));
            result
        });
        task.await
            .map_err(|error| PasswordError::Failed(error.to_string()))?
    }
}

/// Returns the objection to a new password of somebody in these organisations, for people; `None`
/// if it is accepted.
pub(crate) fn objection<'a>(
    password: &Secret,
    email: &str,
    mut organisations: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let text = password.reveal();
    let length = text.chars().count();
    if !(PASSWORD_MIN..=PASSWORD_MAX).contains(&length) {
        return Some(format!(
            "the password has {length} characters; it needs {PASSWORD_MIN} to {PASSWORD_MAX}"
        ));
    }
    let same = |other: &str| text.eq_ignore_ascii_case(other.trim());
    (same(email) || organisations.any(same))
        .then(|| "the password must not be the email or the organisation's name".to_owned())
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    let salt: [u8; SALT_LEN] = random_bytes();
    let hash = argon2()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| PasswordError::Failed(error.to_string()))?;
    Ok(hash.to_string())
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| PasswordError::Failed(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// OWASP's floor for argon2id: about 20 ms of one core. More memory would let a flood of logins
/// starve a small controller.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_LEN: usize = 16;

/// Most hashes that wait for a processor: about a second of waiting on two of them.
const WAITING_MAX: usize = 64;

/// Of these, hashes that strangers may wait for, from any number of sources.
const STRANGERS_WAITING_MAX: usize = WAITING_MAX * 3 / 4;

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let hasher = Hasher::new(NonZero::<usize>::MIN).unwrap();
        let password = Secret::new("correct horse battery");
        let stored = hasher.hash(&password).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let verify = |text: &'static str, stored: Option<String>| {
            let hasher = &hasher;
            async move {
                hasher
                    .verify(&Secret::new(text), stored, Asker::Stranger)
                    .await
                    .unwrap()
            }
        };
        assert!(verify("correct horse battery", Some(stored.clone())).await);
        assert!(!verify("correct horse batterz", Some(stored)).await);
        assert!(!verify("no account has this password", None).await);
    }

    #[tokio::test]
    async fn beyond_the_queue_is_busy() {
        let hasher = Hasher::new(NonZero::<usize>::MIN).unwrap();
        let _all = hasher
            .waiting
            .acquire_many(u32::try_from(1 + WAITING_MAX).unwrap())
            .await
            .unwrap();
        let refused = hasher.hash(&Secret::new("x")).await;
        assert!(matches!(refused, Err(PasswordError::Busy)));
    }

    #[tokio::test]
    async fn strangers_who_wait_leave_room_for_who_is_known() {
        let hasher = Hasher::new(NonZero::<usize>::MIN).unwrap();
        let password = Secret::new("correct horse battery");
        let flood = (0..2 * WAITING_MAX).map(|_| hasher.verify(&password, None, Asker::Stranger));
        let mut flood: Vec<_> = flood.map(Box::pin).collect();
        let mut busy = 0;
        for stranger in &mut flood {
            if let Poll::Ready(result) = futures_util::poll!(stranger) {
                assert!(matches!(result, Err(PasswordError::Busy)));
                busy += 1;
            }
        }
        assert_eq!(busy, 2 * WAITING_MAX - STRANGERS_WAITING_MAX);
        let mut known = pin!(hasher.verify(&password, None, Asker::Known));
        assert!(
            futures_util::poll!(known.as_mut()).is_pending(),
            "it waits its turn"
        );
        // What has not begun does not wait any more.
        drop(flood);
        assert!(!known.await.unwrap());
    }

    #[test]
    fn short_and_obvious_passwords_meet_an_objection() {
        let check = |password: &str| {
            objection(
                &Secret::new(password),
                "someone@example.org",
                ["Other", "Some Organisation"].into_iter(),
            )
        };
        assert_eq!(check("fifteen letters"), None);
        assert!(check("fourteen lette").is_some());
        assert!(check(&"x".repeat(PASSWORD_MAX + 1)).is_some());
        assert!(check("Someone@example.org").is_some());
        assert!(check("some organisation").is_some());
    }
}
