//! The simulated handsets of an embedded SMS centre, as a person with one in the hand uses it.

use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use dialtone_proto::sms::sim::v1::handsets_client::HandsetsClient;
use dialtone_proto::sms::sim::v1::{ListSmsRequest, SendSmsRequest, SetPowerRequest, Sms, WatchSmsRequest};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// All handsets of a centre.
#[derive(Clone)]
pub struct Handsets {
    client: HandsetsClient<Channel>,
}

impl Handsets {
    /// Those at the operations port given as URL, connecting when first used.
    ///
    /// # Errors
    /// When it is not a URL.
    pub fn at(url: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned()).context("the SMS centre's URL")?;
        Ok(Self { client: HandsetsClient::new(endpoint.connect_lazy()) })
    }

    /// Texts from a handset.
    ///
    /// # Errors
    /// When the centre can't be reached or refuses.
    pub async fn send(&self, from: &str, to: &str, text: &str) -> Result<()> {
        let request = SendSmsRequest { from: from.into(), to: to.into(), text: text.into() };
        self.client.clone().send_sms(request).await.context("sending an SMS from a handset")?;
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
            .context("switching")?;
        Ok(())
    }

    /// What lies on a handset.
    ///
    /// # Errors
    /// When the centre can't be reached.
    pub async fn list(&self, number: &str) -> Result<Vec<Sms>> {
        let answer = self.client.clone().list_sms(ListSmsRequest { number: number.into() }).await;
        Ok(answer.context("looking at a handset")?.into_inner().sms)
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
        Ok(self.client.clone().watch_sms(request).await.context("following a handset")?.into_inner())
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

/// The six digits of a code in a text.
pub fn code_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_digit());
    words.into_iter().find(|word| word.len() == 6).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_code_and_no_other_number() {
        assert_eq!(code_in("Dialtone code: 042137. Valid 5 minutes."), Some("042137".into()));
        assert_eq!(code_in("call +14155550101 or 12345"), None);
    }
}
