//! Routing's neighbours: identity, the SMS bridge, and an inbox that answers as it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use dialtone_proto::bus::v1 as bus;
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::bus::v1::offer_entry::Entry;
use dialtone_proto::identity::internal::v1 as directory;
use dialtone_proto::identity::internal::v1::directory_server::Directory;
use dialtone_proto::sms::internal::v1::bridge_server::Bridge;
use dialtone_proto::sms::internal::v1::{QuoteRequest, QuoteResponse};
use dialtone_vocab::UserId;
use tonic::{Request, Response, Status};

/// Identity, as far as routing asks it: number → user and epoch.
#[derive(Clone, Default)]
pub(crate) struct FakeDirectory(pub(crate) Arc<RwLock<BTreeMap<String, (UserId, u64)>>>);

#[tonic::async_trait]
impl Directory for FakeDirectory {
    async fn resolve(
        &self,
        request: Request<directory::ResolveRequest>,
    ) -> Result<Response<directory::ResolveResponse>, Status> {
        let known = self.0.read().expect("lock");
        let answer = |number: &String| match known.get(number) {
            Some((user, epoch)) => {
                directory::Resolved { user: user.to_vec(), epoch: *epoch, ..Default::default() }
            }
            None => directory::Resolved::default(),
        };
        let answers = request.get_ref().numbers.iter().map(answer).collect();
        Ok(Response::new(directory::ResolveResponse { answers }))
    }

    async fn numbers(
        &self,
        request: Request<directory::NumbersRequest>,
    ) -> Result<Response<directory::NumbersResponse>, Status> {
        let known = self.0.read().expect("lock");
        let answer = |user: &Vec<u8>| {
            let found = known.iter().find(|(_, (owner, _))| owner.as_bytes() == user.as_slice());
            found.map_or_else(directory::UserNumbers::default, |(number, (_, epoch))| {
                directory::UserNumbers { primary: number.clone(), epoch: *epoch, ..Default::default() }
            })
        };
        let answers = request.get_ref().users.iter().map(answer).collect();
        Ok(Response::new(directory::NumbersResponse { answers }))
    }
}

/// The SMS bridge: every SMS has one segment.
pub(crate) struct FakeBridge;

#[tonic::async_trait]
impl Bridge for FakeBridge {
    async fn quote(&self, _: Request<QuoteRequest>) -> Result<Response<QuoteResponse>, Status> {
        let quote = QuoteResponse { segments: 1, encoding: "GSM-7".into(), ..Default::default() };
        Ok(Response::new(quote))
    }
}

/// Ben's inbox: what it was offered, and how it takes it.
#[derive(Default)]
pub(crate) struct FakeInbox {
    /// How a message is taken; nothing: it is not answered.
    pub(crate) message: Option<(Kind, &'static str)>,
    /// How a withdrawal is.
    pub(crate) withdraw: Option<Kind>,
    /// Whether it has just begun, and says so of what it does not answer.
    pub(crate) begins: bool,
    /// Every offer that came.
    pub(crate) offers: Vec<bus::Offer>,
    /// What it took: answered the same again.
    pub(crate) taken: BTreeMap<u64, bus::OfferAnswer>,
}

impl FakeInbox {
    /// The positions that came, as they came.
    pub(crate) fn positions(&self) -> Vec<u64> {
        let entries = self.offers.iter().flat_map(|offer| &offer.entries);
        entries.map(|entry| entry.position).collect()
    }

    /// Takes an offer in order, each position once.
    pub(crate) fn take(&mut self, offer: &bus::Offer) -> bus::OfferAnswers {
        self.offers.push(offer.clone());
        let mut told = bus::OfferAnswers {
            source: offer.source.clone(),
            source_user: offer.source_user.clone(),
            receiver: offer.receiver.clone(),
            ..Default::default()
        };
        let mut prev = offer.prev;
        for entry in &offer.entries {
            let last = self.taken.keys().next_back().copied().unwrap_or(0);
            if entry.position > last && prev != last {
                (told.expected, told.taken) = (true, last);
                break;
            }
            if let Some(answer) = self.answer(entry) {
                told.answers.push(answer);
            } else {
                told.wait = self.begins;
                break;
            }
            prev = entry.position;
        }
        told
    }

    fn answer(&mut self, entry: &bus::OfferEntry) -> Option<bus::OfferAnswer> {
        if let Some(answer) = self.taken.get(&entry.position) {
            return Some(answer.clone());
        }
        let (kind, why) = match entry.entry {
            Some(Entry::Message(_)) => self.message?,
            _ => (self.withdraw?, ""),
        };
        let answer = bus::OfferAnswer { position: entry.position, kind: kind.into(), why: why.into() };
        self.taken.insert(entry.position, answer.clone());
        Some(answer)
    }
}
