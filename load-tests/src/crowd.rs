//! Users: registered through the public API and the handsets, as phones do it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use dialtone::handsets::{Handsets, code_in};
use dialtone_chassis::Chassis;
use dialtone_client::{Api, ClientError, CodeOutcome, Credentials, PendingFlow};
use dialtone_vocab::Reason;
use futures::{StreamExt, TryStreamExt};

/// Registrations at a time.
const AT_ONCE: usize = 32;
/// How long an SMS may take.
const SMS_WITHIN: Duration = Duration::from_secs(30);
/// Lines per area code that are reserved for fiction: 555-0100 to 555-0199.
const PER_AREA: usize = 100;
/// The first area code of North America.
const FIRST_AREA: usize = 201;

/// The number of the nth user.
pub(crate) fn number(nth: usize) -> String {
    format!("+1{}55501{:02}", FIRST_AREA + nth / PER_AREA, nth % PER_AREA)
}

/// Registers the first `count` users.
pub(crate) async fn register(
    chassis: &Chassis,
    api: &Api,
    handsets: &Handsets,
    count: usize,
) -> Result<Vec<Credentials>> {
    let users = futures::stream::iter(0..count).map(|nth| async move {
        one(chassis, api, handsets, &number(nth)).await.with_context(|| format!("registering user {nth}"))
    });
    users.buffered(AT_ONCE).try_collect().await
}

async fn one(chassis: &Chassis, api: &Api, handsets: &Handsets, number: &str) -> Result<Credentials> {
    let mut flow = begin(chassis, api, number).await?;
    let (service, intent) = flow.start_mo().await?;
    let before = handsets.last_id(number).await?;
    handsets.send(number, &service, &intent).await?;
    let sms = handsets.wait(chassis, number, before, SMS_WITHIN).await.context("no code came")?;
    let code = code_in(&sms.text).context("the SMS has no code in it")?;
    match flow.check_code(&code).await? {
        CodeOutcome::Passed(_) => Ok(flow.complete(chassis, "load", "").await?),
        CodeOutcome::NotPassed(_) => bail!("the code was refused"),
    }
}

/// A number that had an SMS a moment ago (of an earlier run) has to wait.
async fn begin(chassis: &Chassis, api: &Api, number: &str) -> Result<PendingFlow> {
    loop {
        match PendingFlow::register(api, number).await {
            Ok(flow) => return Ok(flow),
            Err(ClientError::Refused(error)) if error.reason == Reason::SmsBudget => {
                chassis.clock.sleep(error.retry_after.context("a budget without a wait")?).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_number_of_its_own_that_counts() {
        let mut numbers: Vec<String> = (0..20_000).map(number).collect();
        for number in &numbers {
            assert!(dialtone_numbers::normalise(number, "").is_ok(), "{number}");
        }
        numbers.dedup();
        assert_eq!(numbers.len(), 20_000);
    }
}
