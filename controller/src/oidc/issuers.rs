//! The keys of all issuers, fetched when a token needs them: one flight for each issuer at a time,
//! while other tokens of it wait for that one. [`super::keeping`] decides when, and
//! [`super::fetch`] connects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::IssuerAddresses;
use super::discovery::{DiscoveryError, IssuerUrl, keys_url};
use super::endpoints::Endpoints;
use super::fetch::{self, FetchError, With};
use super::keeping::{Keeping, Step};
use super::keys::{KeySet, KeySetError};
use super::provider::ProviderError;
use crate::clock;

/// The place from which the keys of an issuer come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// A person gave them, since the issuer cannot be reached.
    Given(Arc<KeySet>),
    /// The issuer serves them, and proves its name by a public CA or by this one.
    Served {
        issuer: IssuerUrl,
        ca: Option<String>,
    },
}

/// The reason why there are no keys of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssuerError {
    /// A document was not read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The first document is not right.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The keys are not right.
    #[error("its keys cannot be used: {0}")]
    Keys(#[from] KeySetError),
    /// It was asked often, and did not answer.
    #[error("it did not answer lately, and is asked again in {0} s")]
    Lately(u64),
    /// Too many issuers are asked at once.
    #[error("too many issuers are asked at once")]
    Busy,
}

/// The keys of all issuers.
#[derive(Debug)]
pub(crate) struct Issuers {
    allowed: Vec<IssuerAddresses>,
    known: Mutex<BTreeMap<Asked, Arc<Known>>>,
    flights: Semaphore,
    endpoints: Mutex<BTreeMap<Asked, (Instant, Arc<Endpoints>)>>,
    logins: Semaphore,
}

/// An issuer, and the CA by which its server is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    issuer: IssuerUrl,
    ca: Option<String>,
}

#[derive(Debug)]
struct Known {
    keeping: Mutex<Keeping>,
    /// One place: the task that holds it asks the issuer.
    flight: Semaphore,
}

impl Issuers {
    pub(crate) fn new(allowed: Vec<IssuerAddresses>) -> Self {
        Self {
            allowed,
            known: Mutex::default(),
            flights: Semaphore::new(FLIGHTS_MAX),
            endpoints: Mutex::default(),
            logins: Semaphore::new(LOGINS_MAX),
        }
    }

    /// Takes a place for a question that belongs to the login of a person.
    pub(super) fn login(&self) -> Result<SemaphorePermit<'_>, IssuerError> {
        self.logins.try_acquire().map_err(|_| IssuerError::Busy)
    }

    /// Returns how people log in by this issuer. It is asked again every [`ENDPOINTS_FRESH`].
    pub(super) async fn endpoints(
        &self,
        issuer: &IssuerUrl,
        ca: &Option<String>,
    ) -> Result<Arc<Endpoints>, ProviderError> {
        let asked = Asked {
            issuer: issuer.clone(),
            ca: ca.clone(),
        };
        let now = clock::now();
        let is_fresh = |(at, _): &&(Instant, _)| now < *at + ENDPOINTS_FRESH;
        let known = self.endpoints.lock().get(&asked).filter(is_fresh).cloned();
        if let Some((_, endpoints)) = known {
            return Ok(endpoints);
        }
        let document = fetch::get(&issuer.discovery(), ca.as_deref(), &self.allowed).await?;
        let endpoints = Arc::new(Endpoints::parse(issuer, &document)?);
        let mut known = self.endpoints.lock();
        if known.len() >= ISSUERS_MAX {
            known.clear();
        }
        known.insert(asked, (now, endpoints.clone()));
        Ok(endpoints)
    }

    /// Asks a server of an issuer something that is not kept.
    pub(super) async fn ask(
        &self,
        url: &IssuerUrl,
        ca: Option<&str>,
        with: With<'_>,
    ) -> Result<Bytes, FetchError> {
        fetch::ask(url, ca, &self.allowed, with).await
    }

    /// Returns the keys among which that called `kid` should be.
    pub(crate) async fn keys(
        &self,
        source: &KeySource,
        kid: &str,
    ) -> Result<Arc<KeySet>, IssuerError> {
        let (issuer, ca) = match source {
            KeySource::Given(keys) => return Ok(keys.clone()),
            KeySource::Served { issuer, ca } => (issuer, ca),
        };
        let known = self.known(issuer, ca);
        // Nobody closes it.
        let _flight = known
            .flight
            .acquire()
            .await
            .map_err(|_| IssuerError::Busy)?;
        let step = known.keeping.lock().next(clock::now(), kid);
        let left = match step {
            Step::Use(keys) => return Ok(keys),
            Step::Wait(wait) => return Err(IssuerError::Lately(wait.as_secs() + 1)),
            Step::Fetch(left) => left,
        };
        match (self.fetch(issuer, ca.as_deref()).await, left) {
            (Ok(keys), _) => {
                known.keeping.lock().handle_keys(clock::now(), keys.clone());
                Ok(keys)
            }
            (Err(error), Some(left)) => {
                tracing::debug!(%error, issuer = issuer.text(), "older keys are used");
                Ok(left)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn fetch(
        &self,
        issuer: &IssuerUrl,
        ca: Option<&str>,
    ) -> Result<Arc<KeySet>, IssuerError> {
        let _place = self.flights.try_acquire().map_err(|_| IssuerError::Busy)?;
        let document = fetch::get(&issuer.discovery(), ca, &self.allowed).await?;
        let url = keys_url(issuer, &document)?;
        let keys = fetch::get(&url, ca, &self.allowed).await?;
        Ok(Arc::new(KeySet::parse(&keys)?))
    }

    fn known(&self, issuer: &IssuerUrl, ca: &Option<String>) -> Arc<Known> {
        let mut known = self.known.lock();
        if known.len() >= ISSUERS_MAX {
            // Those of rules that are gone are among them; the others are fetched again.
            known.clear();
        }
        let new = || {
            Arc::new(Known {
                keeping: Keeping::new(clock::now()).into(),
                flight: Semaphore::new(1),
            })
        };
        let asked = Asked {
            issuer: issuer.clone(),
            ca: ca.clone(),
        };
        let entry = known.entry(asked);
        entry.or_insert_with(new).clone()
    }
}

/// Issuers that are asked at once: a slow one holds a place for some seconds.
const FLIGHTS_MAX: usize = 16;

/// Logins of people for which a provider is asked at once: they leave the places above to jobs.
const LOGINS_MAX: usize = 16;

/// The time for which the addresses of a provider are used without another look.
const ENDPOINTS_FRESH: Duration = Duration::from_secs(600);

/// Issuers whose keys are kept: some KiB each.
const ISSUERS_MAX: usize = 256;
