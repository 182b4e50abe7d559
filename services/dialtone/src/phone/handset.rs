//! Just the handset of somebody without Dialtone: SMS in, SMS out.

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use dialtone_numbers::normalise;

use super::commands::{addressed, is_last};
use super::screen::Screen;
use super::{REGION, Setup};
use crate::handsets::Handsets;

/// Uses a bare handset until its owner leaves.
///
/// # Errors
/// When the number is malformed or the SMS centre can't be reached.
pub async fn use_handset(chassis: &Chassis, setup: Setup) -> Result<()> {
    let number = normalise(&setup.number, REGION).context("the number, as in +14155550101")?.to_string();
    let handsets = Handsets::at(&setup.sms_centre)?;
    let mut inbox = handsets.follow(chassis, &number).await.context("is the system running? (cargo run)")?;
    let (screen, mut lines) = Screen::open(chassis)?;
    screen.say(format!(
        "This is the handset of {number}. NUMBER TEXT sends an SMS, TEXT answers the last, /quit leaves."
    ));
    let mut last_sender = None;
    loop {
        tokio::select! {
            biased;
            line = lines.recv() => match line {
                Some(line) if line.trim().is_empty() => {}
                Some(line) if is_last(&line) => return Ok(()),
                Some(line) if line.starts_with('/') => screen.say("? NUMBER TEXT, TEXT or /quit"),
                Some(line) => {
                    let sent = send(&handsets, &number, &line, last_sender.as_deref()).await;
                    screen.say(sent.unwrap_or_else(|error| format!("! {error:#}")));
                }
                None => return Ok(()),
            },
            Some(sms) = inbox.recv() => {
                screen.say(format!("[SMS from {}] {}", sms.from, sms.text));
                last_sender = Some(sms.from);
            }
        }
    }
}

async fn send(handsets: &Handsets, own: &str, line: &str, last_sender: Option<&str>) -> Result<String> {
    let named = addressed(line).and_then(|(to, text)| Some((normalise(to, REGION).ok()?.to_string(), text)));
    let (to, text) = match named {
        Some(named) => named,
        None => (last_sender.context("to whom? NUMBER TEXT")?.to_owned(), line.trim()),
    };
    handsets.send(own, &to, text).await?;
    Ok(format!("SMS sent to {to}"))
}
