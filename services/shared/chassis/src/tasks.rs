//! Background tasks: named, their panics counted, ended together.
#![expect(clippy::disallowed_methods, reason = "this is what spawns for everybody else")]

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use futures::FutureExt;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

static PANICS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.chassis")
        .u64_counter("dialtone_task_panics")
        .with_description("Background tasks and handlers that panicked, by name")
        .build()
});

/// Counts and logs a panic of something called `name`. Its payload may hold anything, so it is not logged.
pub(crate) fn note_panic(name: &str) {
    PANICS.add(1, &[KeyValue::new("name", name.to_owned())]);
    tracing::error!(name, "panicked: a defect; the panic message went to stderr");
}

/// A spawned task. Dropping the handle leaves the task running.
pub struct TaskHandle(tokio::task::JoinHandle<()>);

impl TaskHandle {
    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until it has ended, however it did.
    pub async fn ended(self) {
        let _aborted_or_done = self.0.await;
    }
}

/// All background tasks of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a future in the background. A panic ends the task alone, counted under its name.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let guarded = AssertUnwindSafe(future).catch_unwind().map(move |outcome| {
            if outcome.is_err() {
                note_panic(name);
            }
        });
        TaskHandle(self.tracker.spawn(guarded))
    }

    /// Cancelled when the process is to stop; loops watch it.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whether the process is to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells every loop to stop and waits until all tasks have ended; false if some had not within `deadline`.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let tasks = Tasks::default();
        tasks.spawn("bad", async { panic!("on purpose") }).ended().await;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn("good", async move { sender.send(7).expect("awaited") });
        assert_eq!(receiver.await, Ok(7));
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_loops_and_names_the_deadline() {
        let tasks = Tasks::default();
        let stop = tasks.stop_token();
        tasks.spawn("loop", async move { stop.cancelled().await });
        assert!(tasks.shutdown(Duration::from_secs(1)).await);
        let tasks = Tasks::default();
        tasks.spawn("stuck", std::future::pending());
        assert!(!tasks.shutdown(Duration::from_secs(1)).await);
    }
}
