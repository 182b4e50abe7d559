//! `dialtone phone +14155550101`: a phone to play with.

mod commands;
mod desk;
mod profile;
mod screen;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dialtone_chassis::Chassis;
use dialtone_client::{Api, CodeOutcome, Credentials, PendingFlow};
use dialtone_vocab::PhoneNumber;

use crate::handsets::{Handsets, code_in};
use desk::Desk;
use profile::Profile;
use screen::Screen;

/// How long the code may take to come by SMS.
const CODE_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// Where the phone lives and what it talks to.
pub struct Setup {
    /// Its number, with `+`.
    pub number: String,
    /// URL of the gateway.
    pub gateway: String,
    /// URL of the operations port with the handsets.
    pub sms_centre: String,
    /// Folder in which phones keep their keys, books and journals.
    pub home: PathBuf,
}

/// Uses the phone until its owner leaves.
///
/// # Errors
/// When the number is malformed, the system can't be reached, or the phone's folder can't be used.
pub async fn use_phone(chassis: &Chassis, setup: Setup) -> Result<()> {
    let number = PhoneNumber::parse_e164(&setup.number).context("the number, as in +14155550101")?;
    let api = Api::lazy(&setup.gateway)?;
    let handsets = Handsets::at(&setup.sms_centre)?;
    let (screen, lines) = Screen::open(chassis)?;
    let mut profile = Profile::open(&setup.home, number)?;
    let credentials = match profile.credentials(&api).await {
        Some(credentials) => credentials,
        None => register(chassis, &api, &handsets, &screen, &mut profile).await?,
    };
    screen.say(format!("{number} is logged in. /help says what it can do."));
    Desk::new(chassis, api, handsets, screen, profile, credentials).await?.run(lines).await
}

/// The real MO flow: text, code by SMS, code back.
async fn register(
    chassis: &Chassis,
    api: &Api,
    handsets: &Handsets,
    screen: &Screen,
    profile: &mut Profile,
) -> Result<Credentials> {
    let number = profile.number.to_string();
    let mut flow = PendingFlow::register(api, &number).await.context("is the system running? (cargo run)")?;
    let (service, intent) = flow.start_mo().await?;
    let before = handsets.last_id(&number).await?;
    screen.say(format!("Registering: this handset texts \"{intent}\" to {service} …"));
    handsets.send(&number, &service, &intent).await?;
    let sms = handsets.wait(chassis, &number, before, CODE_WITHIN).await.context("no code came by SMS")?;
    screen.say(format!("[SMS from {}] {}", sms.from, sms.text));
    let code = code_in(&sms.text).context("the SMS has no code in it")?;
    if let CodeOutcome::NotPassed(left) = flow.check_code(&code).await? {
        bail!("the code was refused, {left} tries left");
    }
    let credentials = flow.complete(chassis, "dialtone phone", "").await?;
    profile.registered(&credentials)?;
    Ok(credentials)
}
