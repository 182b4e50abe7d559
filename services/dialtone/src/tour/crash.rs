//! Step 10: the process is killed while 1,000 sends are in flight and one stream is half acked.

use anyhow::{Context, Result, bail, ensure};
use dialtone_client::{Event, text, to};
use dialtone_proto::types::v1::Policy;

use super::phone::content;
use super::teller::say;
use super::world::World;
use crate::own::OwnSystem;

/// Sends in flight.
const SENDS: usize = 1_000;
/// What the receiver has taken when it stops acknowledging.
const TAKEN_BEFORE: usize = 100;
/// Answers the sender has when the process is killed.
const ACCEPTED_BEFORE: usize = 300;
/// How long everything may take to arrive afterwards.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

pub(super) async fn kill(world: &mut World, own: &mut OwnSystem) -> Result<()> {
    let World { chassis, anna, ben, .. } = world;
    anna.settle()?;
    ben.settle()?;
    let round = chassis.rng.u64();
    let sender = anna.online()?.session.clone();
    let recipient = to::user(ben.user()?);
    let sending = async {
        for n in 0..SENDS {
            sender.send(recipient.clone(), text(format!("{round:x} {n}")), Policy::default()).await?;
        }
        anyhow::Ok(())
    };
    let (mut accepted, mut shown) = (Vec::new(), Vec::new());
    let killing = async {
        take(&mut anna.online()?.events, ACCEPTED_BEFORE, &mut accepted, answer).await?;
        take(&mut ben.online()?.events, TAKEN_BEFORE, &mut shown, |event| text_of(event, round)).await?;
        ben.online()?.session.freeze(true).await?;
        own.kill().await?;
        own.start_again(chassis).await?;
        ben.online()?.session.freeze(false).await.context("thawing")
    };
    let (sent, killed) = tokio::join!(sending, killing);
    sent?;
    killed?;
    say(format!(
        "killed with {} of {SENDS} accepted and {} taken, one stream frozen half acked; started again",
        accepted.len(),
        shown.len()
    ));
    let rest = async {
        take(&mut anna.online()?.events, SENDS, &mut accepted, answer).await?;
        take(&mut ben.online()?.events, SENDS, &mut shown, |event| text_of(event, round)).await
    };
    chassis.clock.timeout(WITHIN, rest).await.ok().context("not everything arrived in time")??;
    compare(&accepted, &shown, round)?;
    say(format!(
        "the clients' journals: {} accepted, {} shown; lost 0, twice 0, order kept",
        accepted.len(),
        shown.len()
    ));
    Ok(())
}

/// Takes events until `until` of the kind have come in all.
async fn take<T>(
    events: &mut tokio::sync::mpsc::Receiver<Event>,
    until: usize,
    found: &mut Vec<T>,
    of_kind: impl Fn(&Event) -> Option<T>,
) -> Result<()> {
    while found.len() < until {
        let event = events.recv().await.context("a session ended")?;
        match &event {
            Event::Refused(_, refused, _) => bail!("a send was refused: {}", refused.reason),
            Event::Ended(go_away) => bail!("a session was ended: {}", go_away.reason),
            _ => {}
        }
        found.extend(of_kind(&event));
    }
    Ok(())
}

fn answer(event: &Event) -> Option<u64> {
    if let Event::Accepted(_, accepted, _) = event { Some(accepted.sent_idx) } else { None }
}

fn text_of(event: &Event, round: u64) -> Option<String> {
    let Event::Message(message) = event else { return None };
    let text = String::from_utf8_lossy(content(message)).into_owned();
    text.starts_with(&format!("{round:x} ")).then_some(text)
}

fn compare(accepted: &[u64], shown: &[String], round: u64) -> Result<()> {
    ensure!(accepted.is_sorted_by(|a, b| a < b), "accepted out of order or twice");
    for (n, text) in shown.iter().enumerate() {
        ensure!(
            *text == format!("{round:x} {n}"),
            "the {n}th shown is {text:?}: lost, twice or out of order"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(order: &[u64]) -> Vec<String> {
        order.iter().map(|n| format!("a {n}")).collect()
    }

    #[test]
    fn the_comparison_sees_loss_repeats_and_disorder() {
        assert!(compare(&[1, 2, 3], &texts(&[0, 1, 2]), 10).is_ok());
        assert!(compare(&[1, 2, 3], &texts(&[0, 2]), 10).is_err());
        assert!(compare(&[1, 2, 3], &texts(&[0, 1, 1, 2]), 10).is_err());
        assert!(compare(&[1, 2, 3], &texts(&[1, 0, 2]), 10).is_err());
        assert!(compare(&[1, 3, 2], &texts(&[0, 1, 2]), 10).is_err());
        assert!(compare(&[1, 1], &texts(&[0, 1]), 10).is_err());
    }
}
