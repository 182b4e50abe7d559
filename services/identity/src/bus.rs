//! The bus door: MO claims come in; codes, facts and ended sessions go out.

use dialtone_bus::{Bus, BusError, Subscription, subjects};
use dialtone_chassis::{Backoff, Chassis};
use dialtone_proto::bus::v1::{FactTaken, MoClaim, MoClaimed, SessionEnded, SmsSubmit, SmsTaken, sms_submit};
use dialtone_store::StoreError;
use dialtone_vocab::{PhoneNumber, SessionId, UnixMillis, UserId};

use crate::handle::Handle;
use crate::limits::{
    FACT_BATCH, FACT_LOOK, FACT_LOTS, FACT_WITHIN, RETRY_FIRST, RETRY_MAX, SMS_TRIES, SMS_WITHIN,
    SWEEP_EVERY, SWEEP_STEPS,
};
use crate::store::{Store, Sweep, Sweeper};

/// Hands codes to the SMS service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CodeSender {
    chassis: Chassis,
    bus: Bus,
}

impl CodeSender {
    pub(crate) fn new(chassis: &Chassis, bus: &Bus) -> Self {
        Self { chassis: chassis.clone(), bus: bus.clone() }
    }

    /// Sends in the background: the caller's answer takes the same time whether anything is sent or not.
    pub(crate) fn send(&self, number: PhoneNumber, code: &str, message_id: [u8; 16]) {
        let submit = SmsSubmit {
            message_id: message_id.to_vec(),
            to: number.to_string(),
            text: format!("Dialtone code: {code}. Never tell it to anybody."),
            kind: sms_submit::Kind::Code.into(),
            ..Default::default()
        };
        let this = self.clone();
        self.chassis.tasks.spawn("identity code", async move { this.deliver(submit).await });
    }

    async fn deliver(&self, submit: SmsSubmit) {
        let mut pause = RETRY_FIRST;
        for _ in 0..SMS_TRIES {
            let asked =
                self.bus.request::<_, SmsTaken>(&subjects::sms_send(), submit.clone(), SMS_WITHIN).await;
            match asked {
                Ok(taken) if taken.refused.is_empty() => return,
                Ok(taken) => {
                    return tracing::warn!(reason = taken.refused, "a code was refused by the SMS service");
                }
                Err(error) => tracing::debug!(%error, "a code was not taken yet"),
            }
            self.chassis.clock.sleep(self.chassis.rng.jitter(pause)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        tracing::warn!("the SMS service did not take a code");
    }
}

/// Tells gateways which sessions have ended. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SessionsEnded {
    chassis: Chassis,
    bus: Bus,
}

impl SessionsEnded {
    pub(crate) fn new(chassis: &Chassis, bus: &Bus) -> Self {
        Self { chassis: chassis.clone(), bus: bus.clone() }
    }

    pub(crate) fn tell(&self, user: UserId, session: SessionId) {
        let (bus, ended) =
            (self.bus.clone(), SessionEnded { session_id: session.to_vec(), user: user.to_vec() });
        self.chassis.tasks.spawn("identity ended", async move {
            if let Err(error) = bus.publish(&subjects::gateway_fact(), ended).await {
                tracing::warn!(%error, "an ended session was not told");
            }
        });
    }
}

/// Opens the door.
pub(crate) async fn open(bus: &Bus, handle: Handle, store: Store) -> Result<(), BusError> {
    let claims = bus.subscribe_group(&subjects::identity_mo(), "identity").await?;
    let chassis = handle.chassis.clone();
    chassis.tasks.spawn("identity claims", hear_claims(handle, claims));
    for lot in 0..FACT_LOTS {
        chassis.tasks.spawn("identity facts", tell_facts(lot, chassis.clone(), bus.clone(), store.clone()));
    }
    chassis.tasks.spawn("identity sweep", sweep(chassis.clone(), store));
    Ok(())
}

async fn hear_claims(handle: Handle, mut claims: Subscription<MoClaim>) {
    let stop = handle.chassis.tasks.stop_token();
    loop {
        let claim = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            claim = claims.next() => match claim {
                Some(claim) => claim,
                None => return,
            },
        };
        if claim.is_late(handle.chassis.clock.now()) {
            continue;
        }
        let Ok(from) = PhoneNumber::parse_e164(&claim.message.from) else {
            claim.reply(MoClaimed { claimed: false }).await;
            continue;
        };
        match handle.claim_mo(from, &claim.message.text).await {
            Ok(claimed) => claim.reply(MoClaimed { claimed }).await,
            // Not answered: the SMS service asks again.
            Err(error) => tracing::warn!(reason = error.reason.as_str(), "a claim could not be decided"),
        }
    }
}

/// Requests each fact of a lot until it is taken. Several processes may tell the same: whoever is told knows it by its
/// epoch.
async fn tell_facts(lot: u8, chassis: Chassis, bus: Bus, store: Store) {
    let (stop, pending) = (chassis.tasks.stop_token(), store.pending());
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    loop {
        let told = stop.run_until_cancelled(tell_lot(lot, &chassis, &bus, &store)).await;
        let Some(all) = told else { return };
        let rest = async {
            if all {
                backoff.reset();
                // The lots take their turns.
                let look = chassis.rng.jitter(2 * FACT_LOOK);
                let _either = chassis.clock.timeout(look, pending.noted(lot)).await;
            } else {
                chassis.clock.sleep(backoff.pause(&chassis.rng)).await;
            }
        };
        if stop.run_until_cancelled(rest).await.is_none() {
            return;
        }
    }
}

/// What became of a fact.
enum Told {
    /// Nothing is left of it.
    Taken,
    NotYet,
    /// Nobody is there to take one: the others need not be tried now.
    Nobody,
}

/// Whether all that was there was taken. One that is not taken keeps the others waiting, and no other lot.
async fn tell_lot(lot: u8, chassis: &Chassis, bus: &Bus, store: &Store) -> bool {
    let (mut all, mut last) = (true, None);
    loop {
        let rows = match store.facts(lot, last.as_deref()).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "facts could not be read");
                return false;
            }
        };
        for (key, value) in &rows {
            match tell_fact(key, value, chassis, bus, store).await {
                Told::Taken => {}
                Told::NotYet => all = false,
                Told::Nobody => return false,
            }
        }
        match rows.last() {
            Some((key, _)) if rows.len() == FACT_BATCH => last = Some(key.clone()),
            _ => return all,
        }
    }
}

async fn tell_fact(key: &[u8], value: &[u8], chassis: &Chassis, bus: &Bus, store: &Store) -> Told {
    let told = async {
        let Some(fact) = store.fact(key, value, chassis.clock.now()).await? else { return Ok(Told::Taken) };
        let asked = bus.request::<_, FactTaken>(&subjects::contacts_fact(), fact, FACT_WITHIN).await;
        if let Err(error) = asked {
            tracing::debug!(%error, "a fact was not taken yet");
            return Ok(if error == BusError::NoResponder { Told::Nobody } else { Told::NotYet });
        }
        store.drop_fact(key).await.map(|()| Told::Taken)
    };
    told.await.unwrap_or_else(|error: StoreError| {
        tracing::warn!(%error, "a fact could not be told");
        Told::NotYet
    })
}

async fn sweep(chassis: Chassis, store: Store) {
    let stop = chassis.tasks.stop_token();
    let mut sweepers = Sweep::ALL.map(Sweeper::new);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = chassis.clock.sleep(SWEEP_EVERY) => {}
        }
        for sweeper in &mut sweepers {
            let swept = stop.run_until_cancelled(sweep_on(sweeper, &store, chassis.clock.now())).await;
            if let Some(Err(error)) = swept {
                tracing::warn!(%error, "the sweep will be tried again");
            }
        }
    }
}

async fn sweep_on(sweeper: &mut Sweeper, store: &Store, now: UnixMillis) -> Result<(), StoreError> {
    for _ in 0..SWEEP_STEPS {
        let (_, is_end) = sweeper.next(store, now).await?;
        if is_end {
            break;
        }
    }
    Ok(())
}
