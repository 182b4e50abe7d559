//! The people of the tour and what they need.

use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use dialtone_client::Api;

use super::phone::Phone;
use crate::handsets::Handsets;

/// How long anything in the tour may take to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Area codes in which the fictional numbers of the tour live (555-0100 to 555-0199 are reserved for fiction).
const AREAS: [u32; 20] =
    [201, 206, 212, 213, 214, 303, 305, 312, 404, 408, 415, 503, 512, 602, 615, 617, 702, 713, 718, 816];

/// The system the tour is told against, and the people.
pub(super) struct World {
    pub(super) chassis: Chassis,
    pub(super) api: Api,
    pub(super) handsets: Handsets,
    /// Two users and a third who writes to the same non-user.
    pub(super) anna: Phone,
    pub(super) ben: Phone,
    pub(super) carla: Phone,
    /// Nobody's number: reached by SMS only.
    pub(super) stranger: String,
    /// Another number without a user, for the incremental sync.
    pub(super) newcomer: String,
}

impl World {
    pub(super) fn new(chassis: &Chassis, gateway: &str, sms_centre: &str) -> Result<Self> {
        let api = Api::lazy(gateway).context("the gateway's URL")?;
        let area = AREAS[usize::try_from(chassis.rng.below(AREAS.len() as u64))?];
        let first = chassis.rng.below(95);
        let number = |nth: u64| format!("+1{area}55501{:02}", first + nth);
        Ok(Self {
            chassis: chassis.clone(),
            api: api.clone(),
            handsets: Handsets::at(sms_centre)?,
            anna: Phone::new("Anna", number(0)),
            ben: Phone::new("Ben", number(1)),
            carla: Phone::new("Carla", number(2)),
            stranger: number(3),
            newcomer: number(4),
        })
    }

    /// Closes every session that is open.
    pub(super) async fn close(&mut self) {
        for phone in [&mut self.anna, &mut self.ben, &mut self.carla] {
            phone.go_offline().await;
        }
    }
}
