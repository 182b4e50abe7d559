//! Work that blocks a thread: a bounded pool in real processes, inline in simulations.
#![expect(clippy::disallowed_methods, reason = "this is the pool that everybody else must use")]

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Blocking calls that run at once; more wait.
const POOL: usize = 16;

/// Runs blocking work. Cheap to clone.
#[derive(Clone)]
pub struct Blocking(Option<Arc<Semaphore>>);

impl Blocking {
    pub(crate) fn pool() -> Self {
        Self(Some(Arc::new(Semaphore::new(POOL))))
    }

    pub(crate) fn inline() -> Self {
        Self(None)
    }

    /// Lets the thread of blocking work sleep; not in a simulation, where it is everybody's thread.
    pub fn rest(&self, duration: Duration) {
        if self.0.is_some() && !duration.is_zero() {
            std::thread::sleep(duration);
        }
    }

    /// Runs `work` off the runtime's threads; a panic in it is passed on.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(pool) = &self.0 else { return work() };
        let _slot = pool.acquire().await.expect("the pool is never closed");
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down: whoever waits is being dropped too.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn runs_inline_and_in_the_pool() {
        assert_eq!(Blocking::inline().run(|| 1).await + Blocking::pool().run(|| 2).await, 3);
    }
}
