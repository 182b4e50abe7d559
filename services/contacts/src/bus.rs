//! The bus door: facts about numbers come in; facts about blocks and events for the phones go out.

use std::sync::Arc;

use dialtone_bus::{Bus, BusError, Delivery, Fan, Subscription, subjects};
use dialtone_chassis::Backoff;
use dialtone_proto::bus::v1::{ContactEvent, FactTaken, NumberFact, PresenceItem, ToPresence, presence_item};
use dialtone_proto::edge::v1::Contact;
use dialtone_shards::Shards;
use dialtone_vocab::{PhoneNumber, UserId};
use tokio::sync::Semaphore;

use crate::handle::{Handle, NewOwner};
use crate::limits::{FACT_WITHIN, FACTS_AT_ONCE, RETRY_FIRST, RETRY_MAX};
use crate::metrics;

/// Tells users what became of their contacts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Teller {
    presence: Fan<ToPresence>,
    shards: Shards,
}

impl Teller {
    pub(crate) fn new(bus: &Bus, shards: &Shards) -> Self {
        Self { presence: bus.fan(subjects::presence), shards: shards.clone() }
    }

    /// Told once: who misses it sees it in the next `ListFriends`.
    pub(crate) fn tell(&self, user: UserId, contact: Contact) {
        let event = ContactEvent { user: user.to_vec(), contact: Some(contact) };
        let item = PresenceItem { item: Some(presence_item::Item::Contact(event)) };
        let sent = self.shards.node_of("presence", user).map(|node| self.presence.push(&node, item).is_ok());
        metrics::fact("contact_event", if sent == Some(true) { "told" } else { "lost" });
    }
}

/// Opens the door.
pub(crate) async fn open(bus: &Bus, handle: &Handle) -> Result<(), BusError> {
    let facts = bus.subscribe_group(&subjects::contacts_fact(), "contacts").await?;
    let tasks = &handle.shared.chassis.tasks;
    tasks.spawn("contacts facts", hear_facts(handle.clone(), facts));
    tasks.spawn("contacts blocks", tell_blocks(handle.clone(), bus.clone()));
    Ok(())
}

fn owner(fact: &NumberFact) -> Option<NewOwner> {
    let user = match fact.user.as_slice() {
        [] => None,
        bytes => Some(UserId::from_slice(bytes).ok()?),
    };
    let number = PhoneNumber::parse_e164(&fact.number).ok()?;
    Some(NewOwner { number, user, epoch: fact.epoch, nickname: fact.nickname.clone() })
}

/// Takes facts, so many at a time: one that waits for a book holds up no other. Which of two about one number is later
/// is said by their epochs, in whatever order they come.
async fn hear_facts(handle: Handle, mut facts: Subscription<NumberFact>) {
    let tasks = handle.shared.chassis.tasks.clone();
    let (stop, free) = (tasks.stop_token(), Arc::new(Semaphore::new(FACTS_AT_ONCE)));
    loop {
        let next = async {
            let permit = free.clone().acquire_owned().await.ok()?;
            Some((permit, facts.next().await?))
        };
        let Some(Some((permit, fact))) = stop.run_until_cancelled(next).await else { return };
        let handle = handle.clone();
        tasks.spawn("contacts fact", async move {
            let _held_until_answered = permit;
            hear_fact(&handle, fact).await;
        });
    }
}

async fn hear_fact(handle: &Handle, fact: Delivery<NumberFact>) {
    if fact.is_late(handle.shared.chassis.clock.now()) {
        return;
    }
    let Some(owner) = owner(&fact.message) else {
        tracing::warn!("a fact about a number that can't be read");
        return fact.reply(FactTaken {}).await;
    };
    match handle.number_has(owner).await {
        Ok(()) => {
            metrics::fact("number", "taken");
            fact.reply(FactTaken {}).await;
        }
        // Not answered: identity tells it again.
        Err(error) => {
            metrics::fact("number", "again");
            tracing::warn!(reason = error.reason.as_str(), "a fact could not be taken");
        }
    }
}

/// Requests each fact about a block until it is taken.
async fn tell_blocks(handle: Handle, bus: Bus) {
    let chassis = handle.shared.chassis.clone();
    let stop = chassis.tasks.stop_token();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
    loop {
        let all_taken = tell_round(&handle, &bus).await;
        let rest = async {
            if all_taken {
                backoff.reset();
                handle.new_block().await;
            } else {
                chassis.clock.sleep(backoff.pause(&chassis.rng)).await;
            }
        };
        if stop.run_until_cancelled(rest).await.is_none() {
            return;
        }
    }
}

/// Whether nothing is left to tell.
async fn tell_round(handle: &Handle, bus: &Bus) -> bool {
    loop {
        let facts = match handle.shared.store.facts().await {
            Ok(facts) if facts.is_empty() => return true,
            Ok(facts) => facts,
            Err(error) => {
                tracing::warn!(%error, "facts could not be read");
                return false;
            }
        };
        for (key, fact) in facts {
            let asked =
                bus.request::<_, FactTaken>(&subjects::offline_fact(), fact.clone(), FACT_WITHIN).await;
            if asked.is_err() || handle.shared.store.drop_fact(&key).await.is_err() {
                metrics::fact("block", "again");
                return false;
            }
            metrics::fact("block", "told");
        }
    }
}
