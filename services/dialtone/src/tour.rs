//! `dialtone tour`: the story of the product, told against a running system through the public API and the simulated
//! handsets only. The first thing that is not as told ends it.

mod crash;
mod phone;
mod send;
mod start;
mod teller;
mod world;

use anyhow::{Result, bail};
use dialtone_chassis::Chassis;

pub use teller::Teller;
use world::World;

use crate::own::{Launch, OwnSystem};

/// Where to tell it.
pub enum Where {
    /// A system of its own: a child process on free ports in a temporary folder.
    Own,
    /// A system that is running already; then nothing is killed.
    Running {
        /// URL of its gateway.
        gateway: String,
        /// URL of the operations port at which its embedded SMS centre's handsets are.
        sms_centre: String,
    },
}

/// What to tell.
pub struct Plan {
    /// Where.
    pub at: Where,
    /// One JSON object a line instead of prose.
    pub json: bool,
    /// Only this step, as often as given (for checking step 10 many times).
    pub only_crash: Option<u32>,
}

/// Tells the tour.
///
/// # Errors
/// The first thing that is not as told.
pub async fn tell(chassis: &Chassis, plan: Plan) -> Result<()> {
    let mut teller = Teller::new(chassis.clock.clone(), plan.json);
    let (mut own, gateway, sms_centre) = match plan.at {
        Where::Own => {
            let own = OwnSystem::start(chassis, Launch::default()).await?;
            let (gateway, centre) = (own.gateway_url(), own.centre_url());
            (Some(own), gateway, centre)
        }
        Where::Running { gateway, sms_centre } => (None, gateway, sms_centre),
    };
    let mut world = World::new(chassis, &gateway, &sms_centre)?;
    let told = match (plan.only_crash, &mut own) {
        (Some(times), Some(own)) => crash_only(&mut teller, &mut world, own, times).await,
        (Some(_), None) => bail!("step 10 kills the system: it needs one of its own"),
        (None, own) => whole(&mut teller, &mut world, own.as_mut()).await,
    };
    world.close().await;
    if let Some(own) = own {
        own.stop().await?;
    }
    told?;
    teller.end();
    Ok(())
}

async fn whole(teller: &mut Teller, world: &mut World, own: Option<&mut OwnSystem>) -> Result<()> {
    teller.step(1, "Two phones register by nothing but their number", start::register(world)).await?;
    teller.step(2, "Each syncs its address book: friends and non-users", start::sync(world)).await?;
    teller
        .step(3, "Both log in by their device key; a message goes out instantly", start::instant(world))
        .await?;
    teller.step(4, "One goes offline: kept, or sent as SMS, never both", send::offline(world)).await?;
    teller
        .step(5, "A non-user gets an SMS, and the reply finds its conversation", send::non_user(world))
        .await?;
    teller.step(6, "An explicit SMS goes as SMS, and the plan told all of it", send::explicit(world)).await?;
    teller.step(7, "A laptop without SIM logs in by a one-time password", start::laptop(world)).await?;
    teller.step(8, "An address-book change is synced incrementally", start::incremental(world)).await?;
    teller
        .step(9, "The interaction table: presence of just the peers one names", send::presence(world))
        .await?;
    if let Some(own) = own {
        teller
            .step(
                10,
                "The process is killed in mid flight: nothing lost, nothing twice",
                crash::kill(world, own),
            )
            .await?;
    }
    Ok(())
}

async fn crash_only(teller: &mut Teller, world: &mut World, own: &mut OwnSystem, times: u32) -> Result<()> {
    teller.step(1, "Two phones register by nothing but their number", start::register(world)).await?;
    teller.step(2, "Each syncs its address book: friends and non-users", start::sync(world)).await?;
    teller
        .step(3, "Both log in by their device key; a message goes out instantly", start::instant(world))
        .await?;
    for _ in 0..times {
        teller
            .step(
                10,
                "The process is killed in mid flight: nothing lost, nothing twice",
                crash::kill(world, own),
            )
            .await?;
    }
    Ok(())
}
