//! The time of the last move of bytes or datagrams on a connection, for those who end it once it
//! has been idle for too long. Ends nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The moment when bytes last moved, in milliseconds since the beginning.
#[derive(Clone)]
pub(crate) struct Moves {
    begin: Instant,
    last: Arc<AtomicU64>,
}

impl Moves {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: Arc::default(),
        }
    }

    pub(crate) fn note(&self) {
        let passed = self.begin.elapsed().as_millis();
        self.last
            .store(u64::try_from(passed).unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns when nothing has moved for `idle`.
    pub(crate) async fn idle_for(&self, idle: Duration) {
        loop {
            let last = self.last.load(Relaxed);
            sleep_until(self.begin + Duration::from_millis(last) + idle).await;
            if self.last.load(Relaxed) == last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idleness_counts_from_the_last_move() {
        let moves = Moves::new();
        let begin = tokio::time::Instant::now();
        let idle = moves.idle_for(Duration::from_secs(10));
        let moving = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(7)).await;
                moves.note();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = idle => {}
            () = moving => {}
        }
        assert_eq!(begin.elapsed(), Duration::from_secs(45));
    }
}
