//! Decides how long the keys of one issuer are believed, and when it is asked for them again. Holds
//! no clock and no connection.
//!
//! ```text
//! no keys ──fetched──> fresh ──FRESH──> aged (asked again; used meanwhile) ──STALE_MAX──> no keys
//!                        └─ a key that is not among them: asked again, as often as REFETCH allows
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keys::KeySet;
use crate::rate::{Allowance, Pace};

/// The keys of one issuer, and when they came.
#[derive(Debug)]
pub(super) struct Keeping {
    keys: Option<(Arc<KeySet>, Instant)>,
    allowance: Allowance,
}

/// The next step towards a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These keys are the ones.
    Use(Arc<KeySet>),
    /// The issuer is asked; if it does not answer, these keys are left.
    Fetch(Option<Arc<KeySet>>),
    /// The issuer was asked too often, and there are no keys.
    Wait(Duration),
}

impl Keeping {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            keys: None,
            allowance: Allowance::new(now),
        }
    }

    /// Decides for the key called `kid`. A step that fetches is counted.
    pub(super) fn next(&mut self, now: Instant, kid: &str) -> Step {
        let age = |at: Instant| now.saturating_duration_since(at);
        let kept = self.keys.as_ref().filter(|(_, at)| age(*at) < STALE_MAX);
        if let Some((keys, at)) = kept
            && age(*at) < FRESH
            && keys.has(kid)
        {
            return Step::Use(keys.clone());
        }
        let kept = kept.map(|(keys, _)| keys.clone());
        match (self.allowance.take(now, REFETCH), kept) {
            (Ok(()), kept) => Step::Fetch(kept),
            (Err(_), Some(kept)) => Step::Use(kept),
            (Err(wait), None) => Step::Wait(wait),
        }
    }

    /// Handles keys that came at `now`.
    pub(super) fn handle_keys(&mut self, now: Instant, keys: Arc<KeySet>) {
        self.keys = Some((keys, now));
    }
}

/// The time for which keys are used without a look at the issuer: so long a key that it withdrew is
/// believed.
const FRESH: Duration = Duration::from_secs(600);

/// The time for which keys are used while their issuer does not answer.
const STALE_MAX: Duration = Duration::from_secs(6 * 3_600);

/// The rate of questions to one issuer: a new key is found at once, and tokens with made-up keys do
/// not make it a flood.
const REFETCH: Pace = Pace {
    burst: 5,
    every: Duration::from_secs(20),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::Signer;

    fn keys() -> Arc<KeySet> {
        Arc::new(KeySet::parse(Signer::new().key_set().as_bytes()).unwrap())
    }

    fn start() -> (Keeping, Instant) {
        let now = tokio::time::Instant::now().into_std();
        (Keeping::new(now), now)
    }

    #[test]
    fn keys_are_fetched_once_and_then_kept() {
        let (mut keeping, now) = start();
        assert_eq!(keeping.next(now, "ed"), Step::Fetch(None));
        let keys = keys();
        keeping.handle_keys(now, keys.clone());
        let at = now + FRESH - Duration::from_millis(1);
        assert_eq!(keeping.next(at, "ed"), Step::Use(keys.clone()));
        assert_eq!(keeping.next(now + FRESH, "ed"), Step::Fetch(Some(keys)));
    }

    #[test]
    fn a_new_key_is_looked_for_at_once_and_a_made_up_one_not_without_end() {
        let (mut keeping, now) = start();
        let keys = keys();
        keeping.handle_keys(now, keys.clone());
        let looks = |keeping: &mut Keeping, at| {
            let steps = (0..1_000).map(|_| keeping.next(at, "new"));
            steps.filter(|step| matches!(step, Step::Fetch(_))).count()
        };
        assert_eq!(looks(&mut keeping, now), REFETCH.burst as usize);
        assert_eq!(looks(&mut keeping, now + REFETCH.every), 1);
        // The keys that are there still serve those who have one.
        assert_eq!(keeping.next(now, "ed"), Step::Use(keys));
    }

    #[test]
    fn an_issuer_that_is_down_leaves_its_keys_for_a_while() {
        let (mut keeping, now) = start();
        let keys = keys();
        keeping.handle_keys(now, keys.clone());
        let at = now + STALE_MAX - Duration::from_millis(1);
        assert_eq!(keeping.next(at, "ed"), Step::Fetch(Some(keys.clone())));
        for _ in 1..REFETCH.burst {
            keeping.next(at, "ed");
        }
        assert_eq!(keeping.next(at, "ed"), Step::Use(keys));
        let after = now + STALE_MAX;
        assert!(matches!(keeping.next(after, "ed"), Step::Wait(_)));
    }
}
