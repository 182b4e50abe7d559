//! `dialtone phone +14155550101`: a phone to play with.

mod commands;
mod desk;
mod handset;
mod profile;
mod screen;
mod words;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use dialtone_chassis::Chassis;
use dialtone_client::{Api, CodeOutcome, Credentials, PendingFlow};
use dialtone_numbers::normalise;

use crate::handsets::{Handsets, code_in};
use desk::Desk;
pub use handset::use_handset;
use profile::Profile;

/// The country in which local forms are read.
const REGION: &str = "US";
/// How long the code may take to come by SMS.
const CODE_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// Where the phone lives and what it talks to.
pub struct Setup {
    /// Its number, as typed.
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
    let number = normalise(&setup.number, REGION).context("the number, as in +14155550101")?;
    let api = Api::lazy(&setup.gateway)?;
    let handsets = Handsets::at(&setup.sms_centre)?;
    let mut profile = Profile::open(&setup.home, number)?;
    let credentials = log_in(chassis, &api, &handsets, &mut profile).await.map_err(|error| {
        anyhow!("{}; is the system running? (cargo run)", words::problem(&error, &setup.gateway))
    })?;
    Desk::open(chassis, setup.gateway, api, handsets, profile, credentials).await?.run().await
}

async fn log_in(
    chassis: &Chassis,
    api: &Api,
    handsets: &Handsets,
    profile: &mut Profile,
) -> Result<Credentials> {
    match profile.credentials(api).await? {
        Some(credentials) => Ok(credentials),
        None => register(chassis, api, handsets, profile).await,
    }
}

/// The real MO flow: text, code by SMS, code back.
async fn register(
    chassis: &Chassis,
    api: &Api,
    handsets: &Handsets,
    profile: &mut Profile,
) -> Result<Credentials> {
    let number = profile.number.to_string();
    let mut flow = PendingFlow::register(api, &number).await?;
    let (service, intent) = flow.start_mo().await?;
    let before = handsets.last_id(&number).await?;
    println!("Registering: this handset texts \"{intent}\" to {service} …");
    handsets.send(&number, &service, &intent).await?;
    let sms = handsets.wait(chassis, &number, before, CODE_WITHIN).await.context("no code came by SMS")?;
    println!("[SMS from {}] {}", sms.from, sms.text);
    let code = code_in(&sms.text).context("the SMS has no code in it")?;
    if let CodeOutcome::NotPassed(left) = flow.check_code(&code).await? {
        bail!("the code was refused, {left} tries left");
    }
    let credentials = flow.complete(chassis, "dialtone phone", "").await?;
    profile.registered(&credentials)?;
    Ok(credentials)
}
