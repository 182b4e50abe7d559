//! Prints the steps and what came back.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_chassis::Clock;

thread_local! {
    /// What the present step has said: the tour runs on one task, step by step.
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Says a line of the present step.
pub(super) fn say(line: impl Into<String>) {
    SAID.with_borrow_mut(|said| said.push(line.into()));
}

/// Tells steps, as prose or as JSON lines.
pub struct Teller {
    clock: Clock,
    json: bool,
    told: u32,
}

impl Teller {
    pub(super) fn new(clock: Clock, json: bool) -> Self {
        Self { clock, json, told: 0 }
    }

    pub(super) async fn step(
        &mut self,
        step: u32,
        title: &str,
        run: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let began = self.clock.instant();
        let outcome = run.await;
        let took = self.clock.instant() - began;
        let said = SAID.take();
        if self.json {
            self.json_line(step, title, outcome.is_ok(), took);
        } else {
            Self::prose(step, title, &said, outcome.is_ok(), took);
        }
        self.told += 1;
        outcome.with_context(|| format!("step {step} is not as told"))
    }

    fn json_line(&self, step: u32, title: &str, ok: bool, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        println!("{}", serde_json::json!({ "step": step, "title": title, "ok": ok, "ms": ms }));
    }

    fn prose(step: u32, title: &str, said: &[String], ok: bool, took: Duration) {
        println!("{step:>2}  {title}");
        for line in said {
            println!("      {line}");
        }
        let mark = if ok { "✓" } else { "✗" };
        println!("    {mark} {:.1} s\n", took.as_secs_f64());
    }

    pub(super) fn end(&self) {
        if !self.json {
            println!("All {} steps were as told.", self.told);
        }
    }
}
