//! The simulated handsets of an embedded SMS centre, as a person with one in the hand uses it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use dialtone_chassis::{Backoff, Chassis};
use dialtone_proto::sms::sim::v1::handsets_client::HandsetsClient;
use dialtone_proto::sms::sim::v1::{ListSmsRequest, SendSmsRequest, SetPowerRequest, Sms, WatchSmsRequest};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// SMS that wait for whoever follows a handset.
const FOLLOWED: usize = 64;
/// The first pause before a centre that went away is asked again.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// All handsets of a centre.
#[derive(Clone)]
pub struct Handsets {
    client: HandsetsClient<Channel>,
    url: String,
}

impl Handsets {
    /// Those at the operations port given as URL, connecting when first used.
    ///
    /// # Errors
    /// When it is not a URL.
    pub fn at(url: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned()).context("the SMS centre's URL")?;
        Ok(Self { client: HandsetsClient::new(endpoint.connect_lazy()), url: url.to_owned() })
    }

    /// What people are told: the centre's own words, or that there is none.
    fn told(&self, status: &Status) -> anyhow::Error {
        // What came over the wire has no cause; a connection that failed has one.
        match std::error::Error::source(status) {
            Some(_) => anyhow!("the SMS centre can't be reached at {}", self.url),
            None => anyhow!("{}", status.message()),
        }
    }

    /// Texts from a handset.
    ///
    /// # Errors
    /// When the centre can't be reached or refuses.
    pub async fn send(&self, from: &str, to: &str, text: &str) -> Result<()> {
        let request = SendSmsRequest { from: from.into(), to: to.into(), text: text.into() };
        self.client.clone().send_sms(request).await.map_err(|status| self.told(&status))?;
        Ok(())
    }

    /// Switches a handset on or off.
    ///
    /// # Errors
    /// When the centre can't be reached.
    pub async fn power(&self, number: &str, on: bool) -> Result<()> {
        self.client
            .clone()
            .set_power(SetPowerRequest { number: number.into(), on })
            .await
            .map_err(|status| self.told(&status))?;
        Ok(())
    }

    /// What lies on a handset.
    ///
    /// # Errors
    /// When the centre can't be reached.
    pub async fn list(&self, number: &str) -> Result<Vec<Sms>> {
        let answer = self.client.clone().list_sms(ListSmsRequest { number: number.into() }).await;
        Ok(answer.map_err(|status| self.told(&status))?.into_inner().sms)
    }

    /// The id of the newest SMS on a handset; 0 if it has none.
    ///
    /// # Errors
    /// When the centre can't be reached.
    pub async fn last_id(&self, number: &str) -> Result<u64> {
        Ok(self.list(number).await?.last().map_or(0, |sms| sms.id))
    }

    /// Follows a handset from after the SMS with this id.
    ///
    /// # Errors
    /// When the centre can't be reached.
    pub async fn watch(&self, number: &str, after_id: u64) -> Result<Streaming<Sms>> {
        let request = WatchSmsRequest { number: number.into(), after_id };
        let answer = self.client.clone().watch_sms(request).await;
        Ok(answer.map_err(|status| self.told(&status))?.into_inner())
    }

    /// Whatever arrives on a handset from now on, through restarts of the centre, as long as somebody listens.
    ///
    /// # Errors
    /// When the centre can't be reached now.
    pub async fn follow(&self, chassis: &Chassis, number: &str) -> Result<mpsc::Receiver<Sms>> {
        let seen = self.list(number).await?.pop();
        let stream = self.watch(number, seen.as_ref().map_or(0, |sms| sms.id)).await?;
        let (sender, followed) = mpsc::channel(FOLLOWED);
        let follower =
            Follower { chassis: chassis.clone(), handsets: self.clone(), number: number.to_owned(), seen };
        chassis.tasks.spawn("handset followed", follower.run(stream, sender));
        Ok(followed)
    }

    /// The next SMS after the one with this id.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn wait(
        &self,
        chassis: &Chassis,
        number: &str,
        after_id: u64,
        patience: Duration,
    ) -> Result<Sms> {
        let next = async {
            let mut stream = self.watch(number, after_id).await?;
            stream.message().await?.context("the handset was taken away")
        };
        chassis.clock.timeout(patience, next).await.ok().context("no SMS came in time")?
    }
}

/// Follows one handset.
struct Follower {
    chassis: Chassis,
    handsets: Handsets,
    number: String,
    seen: Option<Sms>,
}

impl Follower {
    async fn run(mut self, mut stream: Streaming<Sms>, listener: mpsc::Sender<Sms>) {
        loop {
            while let Ok(Some(sms)) = stream.message().await {
                self.seen = Some(sms.clone());
                if listener.send(sms).await.is_err() {
                    return;
                }
            }
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
            stream = loop {
                self.chassis.clock.sleep(backoff.pause(&self.chassis.rng)).await;
                if listener.is_closed() {
                    return;
                }
                if let Ok(stream) = self.reopen().await {
                    break stream;
                }
            };
        }
    }

    async fn reopen(&self) -> Result<Streaming<Sms>> {
        let kept = self.handsets.list(&self.number).await?;
        self.handsets.watch(&self.number, after(&kept, self.seen.as_ref())).await
    }
}

/// The id after which everything is new; a centre that was started anew counts from the beginning.
fn after(kept: &[Sms], seen: Option<&Sms>) -> u64 {
    let known = seen.filter(|seen| kept.iter().any(|sms| (sms.id, sms.at_ms) == (seen.id, seen.at_ms)));
    known.map_or(0, |sms| sms.id)
}

/// The six digits of a code in a text.
pub fn code_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_digit());
    words.into_iter().find(|word| word.len() == 6).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centre_started_anew_is_followed_from_its_first_sms() {
        let sms = |id, at_ms| Sms { id, at_ms, ..Sms::default() };
        let seen = sms(2, 20);
        assert_eq!(after(&[sms(1, 10), sms(2, 20), sms(3, 30)], Some(&seen)), 2);
        assert_eq!(after(&[sms(1, 40), sms(2, 50), sms(3, 60)], Some(&seen)), 0);
        assert_eq!(after(&[], Some(&seen)), 0);
        assert_eq!(after(&[sms(1, 10)], None), 0);
    }

    #[test]
    fn finds_the_code_and_no_other_number() {
        assert_eq!(code_in("Dialtone code: 042137. Valid 5 minutes."), Some("042137".into()));
        assert_eq!(code_in("call +14155550101 or 12345"), None);
    }
}
