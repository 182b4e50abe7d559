//! Two processes with one user's book, and processes that die between two steps: the same over every store.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use dialtone_bus::Bus;
use dialtone_chassis::{Channel, Chassis, Error, Secrets, server};
use dialtone_proto::identity::internal::v1 as directory;
use dialtone_proto::identity::internal::v1::directory_server::{Directory, DirectoryServer};
use dialtone_proto::types::v1::TypedNumber;
use dialtone_shards::Shards;
use dialtone_store::StoreUrl;
use dialtone_vocab::{PhoneNumber, Reason, UserId};
use futures::future::BoxFuture;
use tonic::{Request, Response, Status};

use super::Book;
use crate::bus::Teller;
use crate::handle::{NewOwner, Shared, SyncAnswer, SyncAsk};
use crate::limits::BOOK_NUMBERS;
use crate::peers;
use crate::rows::{BookRow, ChunkRow};
use crate::state;
use crate::store::{Held, Holder};
use crate::testing::two;

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);
const CARLA: UserId = UserId::new([3; 16]);
const BEN_NUMBER: &str = "+14155550102";
const CARLA_NUMBER: &str = "+14155550103";
const NOBODY: &str = "+14155550199";
const NOBODY_ELSE: &str = "+14155550198";

/// What another process does.
type Meanwhile = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + Sync>;

/// Identity, which may be given something to do before it answers the next question.
#[derive(Clone, Default)]
struct Identity {
    meanwhile: Arc<RwLock<Option<Meanwhile>>>,
}

impl Identity {
    /// What happens before it answers the next question.
    fn meanwhile(&self, what: impl Future<Output = ()> + Send + Sync + 'static) {
        let what: Meanwhile = Box::new(move || Box::pin(what));
        *self.meanwhile.write().expect("lock") = Some(what);
    }
}

#[tonic::async_trait]
impl Directory for Identity {
    async fn resolve(
        &self,
        request: Request<directory::ResolveRequest>,
    ) -> Result<Response<directory::ResolveResponse>, Status> {
        let numbers = BTreeMap::from([(BEN_NUMBER, BEN), (CARLA_NUMBER, CARLA)]);
        let answer = |number: &String| match numbers.get(number.as_str()) {
            Some(user) => directory::Resolved { user: user.to_vec(), epoch: 1, ..Default::default() },
            None => directory::Resolved::default(),
        };
        let answers = request.get_ref().numbers.iter().map(answer).collect();
        let meanwhile = self.meanwhile.write().expect("lock").take();
        if let Some(meanwhile) = meanwhile {
            meanwhile().await;
        }
        Ok(Response::new(directory::ResolveResponse { answers }))
    }

    async fn numbers(
        &self,
        _request: Request<directory::NumbersRequest>,
    ) -> Result<Response<directory::NumbersResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

/// Anna's book in two processes.
struct World {
    identity: Identity,
    one: Arc<Book>,
    other: Arc<Book>,
    _chassis: Chassis,
}

async fn world(url: &StoreUrl, budget: u32) -> World {
    let chassis = Chassis::for_tests(1);
    let bus = Bus::local(&chassis);
    let shards = Shards::start(&chassis, &bus, &["contacts", "presence"], &[]).await.expect("shards");
    let identity = Identity::default();
    let routes = tonic::service::Routes::new(DirectoryServer::new(identity.clone()));
    let channel = Channel::Local(server::layers(&chassis, routes, None, &[]));
    let [one, other] = two(url, &chassis).await.map(|store| {
        let shared = Shared {
            chassis: chassis.clone(),
            store,
            number_key: Secrets::for_tests().number_key.clone(),
            budget,
            directory: peers::Directory::new(channel.clone()),
            teller: Teller::new(&bus, &shards),
        };
        Arc::new(Book { shared, user: ANNA })
    });
    World { identity, one, other, _chassis: chassis }
}

fn ask(base: &[u8], added: &[&str], removed: &[&str]) -> SyncAsk {
    let typed = |texts: &[&str]| {
        let number = |text: &&str| TypedNumber { text: (*text).to_owned(), region: String::new() };
        texts.iter().map(number).collect()
    };
    SyncAsk {
        base: base.to_vec(),
        added: typed(added),
        removed: typed(removed),
        region: "US".into(),
        more: false,
    }
}

impl Book {
    async fn answered(&self, base: &[u8], added: &[&str], removed: &[&str]) -> SyncAnswer {
        self.sync(ask(base, added, removed)).await.expect("answered")
    }

    async fn synced(&self, base: &[u8], added: &[&str], removed: &[&str]) -> Vec<u8> {
        let token = self.answered(base, added, removed).await.next_token;
        self.acknowledge(&token).await.expect("acknowledged");
        self.clean().await;
        token
    }

    async fn friends(&self) -> Vec<UserId> {
        let book = self.store().book(ANNA).await.expect("read");
        let friends = self.store().friends(ANNA, book.generation, None, 9).await.expect("read");
        let mut friends: Vec<_> = friends.into_iter().map(|(_, friend)| friend).collect();
        friends.sort_unstable();
        friends
    }

    async fn used(&self) -> u32 {
        self.store().book(ANNA).await.expect("read").budget.unwrap_or_default().used
    }

    async fn size(&self) -> u64 {
        self.store().book(ANNA).await.expect("read").size
    }

    /// Decides an acknowledgement, and dies.
    async fn decide(&self, token: &[u8]) {
        let head = self.settled().await.expect("settled").head;
        let pending = head.row.pending.clone().expect("a chunk");
        assert_eq!(pending.chunk.token, token);
        let row = state::acknowledged(&head.row, &pending, self.shared.chassis.clock.now());
        self.store().replace_book(ANNA, &head, row).await.expect("written").expect("nobody else is there");
    }
}

fn reason<T>(outcome: Result<T, Error>) -> Reason {
    outcome.err().expect("refused").reason
}

async fn an_acknowledgement_that_was_decided_is_finished_by_whoever_comes(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 9).await;
    let token = one.answered(&[], &[BEN_NUMBER, CARLA_NUMBER, NOBODY], &[]).await.next_token;
    one.decide(&token).await;
    assert_eq!(other.acknowledge(&token).await.expect("it is repeated"), [BEN, CARLA]);
    assert_eq!((other.friends().await, other.size().await, other.used().await), (vec![BEN, CARLA], 3, 3));

    let token = one.answered(&token, &[NOBODY_ELSE], &[BEN_NUMBER]).await.next_token;
    one.decide(&token).await;
    // A part was written.
    let owed = one.store().book(ANNA).await.expect("read").owed.expect("something is owed");
    let chunk = one.store().pending(ANNA, owed.chunk.as_ref().expect("a chunk")).await.expect("read");
    one.store().put_chunk(ANNA, owed.generation, owed.number, &chunk.added, &[]).await.expect("written");
    let next = other.synced(&token, &[NOBODY], &[]).await;
    assert_eq!((other.friends().await, other.size().await, other.used().await), (vec![CARLA], 3, 4));
    assert_eq!(reason(one.acknowledge(&token).await), Reason::SyncBaseUnknown);
    one.acknowledge(&next).await.expect("and that is known");
}

async fn who_pays_late_changes_nothing(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 9).await;
    let token = one.answered(&[], &[BEN_NUMBER, CARLA_NUMBER], &[]).await.next_token;
    one.decide(&token).await;
    let late = one.store().book(ANNA).await.expect("read");
    let owed = late.owed.clone().expect("something is owed");
    let at = owed.chunk.as_ref().expect("a chunk");
    let chunk = one.store().pending(ANNA, at).await.expect("read");
    let next = other.synced(&token, &[NOBODY], &[BEN_NUMBER]).await;
    let pending = other.answered(&next, &[NOBODY_ELSE], &[]).await.next_token;
    let before = other.store().book(ANNA).await.expect("read");

    one.store()
        .put_chunk(ANNA, owed.generation, owed.number, &chunk.added, &chunk.removed)
        .await
        .expect("written");
    one.store().put_asked(ANNA, late.forgotten, chunk.fresh()).await.expect("written");
    one.pay(&late, &owed).await.expect("paid");
    assert_eq!(other.friends().await, [CARLA]);
    assert_eq!(other.store().book(ANNA).await.expect("read"), before);
    other.acknowledge(&pending).await.expect("what is pending is still there");
    let known = other.answered(&pending, &[NOBODY_ELSE], &[]).await;
    assert_eq!((other.size().await, known.budget_left), (3, 5));
}

async fn a_chunk_sent_and_acknowledged_twice_at_once_counts_once(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 9).await;
    let numbers = [BEN_NUMBER, NOBODY];
    let (first, second) = tokio::join!(one.answered(&[], &numbers, &[]), other.answered(&[], &numbers, &[]));
    assert_eq!(first, second);
    let (a, b) = tokio::join!(one.acknowledge(&first.next_token), other.acknowledge(&second.next_token));
    let (a, b) = (a.expect("acknowledged"), b.expect("acknowledged"));
    assert!(a == [BEN] || b == [BEN], "somebody tells Ben");
    assert_eq!((one.friends().await, one.size().await, one.used().await), (vec![BEN], 2, 2));
    assert_eq!(one.store().book(ANNA).await.expect("read").chunks, 1);
    assert_eq!(one.store().rows("pending").await, 0, "what nobody names is swept");
}

async fn of_two_chunks_at_once_one_is_pending_and_both_are_charged(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 9).await;
    let (first, second) = tokio::join!(
        one.answered(&[], &[BEN_NUMBER], &[]),
        other.answered(&[], &[CARLA_NUMBER, NOBODY], &[])
    );
    let outcomes = (one.acknowledge(&first.next_token).await, other.acknowledge(&second.next_token).await);
    let friends = match outcomes {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
            assert_eq!(error.reason, Reason::SyncBaseUnknown);
            one.friends().await
        }
        both => panic!("not one of them: {both:?}"),
    };
    assert!(friends == [BEN] || friends == [CARLA]);
    assert_eq!(one.used().await, 3);
    let base = one.store().book(ANNA).await.expect("read").base;
    let again = one.answered(&base, &[BEN_NUMBER, CARLA_NUMBER, NOBODY], &[]).await;
    assert_eq!(again.budget_left, 6, "all of them were asked about");
}

async fn two_at_once_do_not_overdraw_the_budget(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 3).await;
    let (first, second) = tokio::join!(
        one.sync(ask(&[], &[BEN_NUMBER, CARLA_NUMBER], &[])),
        other.sync(ask(&[], &[NOBODY, NOBODY_ELSE], &[]))
    );
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.iter().map(|error| error.reason).collect::<Vec<_>>(), [Reason::ContactBudget]);
}

async fn a_fact_that_another_process_hears_while_identity_answers_is_not_missed(url: &StoreUrl) {
    let World { identity, one, other, .. } = world(url, 9).await;
    let base = one.synced(&[], &[BEN_NUMBER], &[]).await;
    let number = PhoneNumber::parse_e164(NOBODY).expect("a number");
    let hash = one.shared.number_key.hash(number);
    let heard = other.clone();
    identity.meanwhile(async move {
        let owner = NewOwner { number, user: Some(CARLA), epoch: 1, nickname: String::new() };
        let holders = heard.store().holders(hash, 1, None, 9).await.expect("read");
        assert_eq!(holders.len(), 1, "noted before it was asked");
        heard.number_has(&owner, hash, holders[0].generation, false).await.expect("taken");
        heard.number_has(&owner, hash, holders[0].generation, false).await.expect("and again");
    });
    one.synced(&base, &[NOBODY], &[]).await;
    assert_eq!(other.friends().await, [BEN, CARLA]);
}

async fn a_chunk_over_a_head_that_was_replaced_meanwhile_is_made_again(url: &StoreUrl) {
    let World { identity, one, other, .. } = world(url, 9).await;
    let base = one.synced(&[], &[BEN_NUMBER], &[]).await;
    let forget = |book: Arc<Book>| async move {
        book.forget().await.expect("forgotten");
        book.clean().await;
    };
    identity.meanwhile(forget(other.clone()));
    let refused = one.sync(ask(&base, &[CARLA_NUMBER], &[])).await;
    assert_eq!(reason(refused), Reason::SyncBaseUnknown, "the book is no more");
    identity.meanwhile(forget(other.clone()));
    one.synced(&[], &[CARLA_NUMBER], &[]).await;
    assert_eq!((other.friends().await, other.size().await), (vec![CARLA], 1));
    for table in ["contact_of", "asked"] {
        assert_eq!(one.store().rows(table).await, 1, "{table}: nothing is left of what came to nothing");
    }
    assert_eq!(one.store().rows("contact").await, 3, "a number, whose it is, and that it was told");
    let number = PhoneNumber::parse_e164(CARLA_NUMBER).expect("a number");
    let hash = one.shared.number_key.hash(number);
    // What was noted after its generation went is taken back by who did it.
    let late = Holder { user: ANNA, generation: 1 };
    one.store().note(late, [hash]).await.expect("noted");
    one.give_up(&ChunkRow { over: 0, token: vec![7; 16] }, late, [hash].into_iter())
        .await
        .expect("taken back");
    assert_eq!((one.store().rows("contact_of").await, one.store().rows("contact").await), (1, 3));
    // What a process that died has noted for a generation that is over goes when it is found.
    let owner = NewOwner { number, user: Some(BEN), epoch: 2, nickname: String::new() };
    one.store().note(late, [hash]).await.expect("noted");
    assert_eq!(one.store().rows("contact_of").await, 2);
    for holder in one.store().holders(hash, 1, None, 9).await.expect("read") {
        one.number_has(&owner, hash, holder.generation, false).await.expect("taken");
    }
    assert_eq!(one.store().rows("contact_of").await, 1);
    assert_eq!(one.store().held(ANNA, 1, hash).await.expect("read"), Held::default());
    assert_eq!(other.friends().await, [BEN]);
}

async fn a_book_of_which_too_much_was_removed_is_sent_whole(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 9).await;
    let base = one.synced(&[], &[BEN_NUMBER, NOBODY], &[]).await;
    let base = one.synced(&base, &[], &[NOBODY]).await;
    let head = one.settled().await.expect("settled").head;
    assert_eq!(head.row.removed, 1);
    let row = BookRow { removed: BOOK_NUMBERS, ..head.row.clone() };
    one.store().replace_book(ANNA, &head, row).await.expect("written").expect("nobody else is there");
    assert_eq!(reason(other.sync(ask(&base, &[CARLA_NUMBER], &[])).await), Reason::SyncBaseUnknown);
    let base = other.synced(&[], &[BEN_NUMBER], &[]).await;
    other.synced(&base, &[CARLA_NUMBER], &[]).await;
    assert_eq!(other.friends().await, [BEN, CARLA]);
}

async fn nothing_is_left_of_a_book_that_was_forgotten(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 9).await;
    let base = one.synced(&[], &[BEN_NUMBER, NOBODY], &[]).await;
    let base = one.synced(&base, &[CARLA_NUMBER], &[NOBODY]).await;
    one.answered(&base, &[NOBODY_ELSE], &[]).await;
    one.answered(&[], &[NOBODY_ELSE, BEN_NUMBER], &[]).await;
    // Decides it, and dies.
    let head = one.settled().await.expect("settled").head;
    let row = state::forgotten(&head.row, one.shared.chassis.clock.now());
    one.store().replace_book(ANNA, &head, row).await.expect("written").expect("nobody else is there");
    other.forget().await.expect("forgotten once more");
    other.clean().await;
    for table in ["contact", "contact_of", "pending", "asked"] {
        assert_eq!(other.store().rows(table).await, 0, "{table}");
    }
    assert_eq!((other.friends().await, other.used().await), (vec![], 4), "what was asked stays charged");
}

async fn blocks_of_two_processes_at_once_all_count(url: &StoreUrl) {
    let World { one, other, .. } = world(url, 9).await;
    let (a, b) = tokio::join!(one.block(BEN, true), other.block(CARLA, true));
    a.and(b).expect("blocked");
    let (a, b) = tokio::join!(one.block(BEN, false), other.block(BEN, false));
    a.and(b).expect("lifted");
    let head = one.store().block_head(ANNA).await.expect("read").row;
    assert_eq!((head.version, head.count), (3, 1));
    let facts = other.store().facts().await.expect("read");
    for (user, on) in [(BEN, false), (CARLA, true)] {
        let of: Vec<_> = facts.iter().filter(|(_, fact)| fact.user == user.as_bytes()[..]).collect();
        assert!(!of.is_empty() && of.iter().all(|(_, fact)| fact.on == on && fact.version == 3));
    }
}

dialtone_testkit::over_every_store! { "contacts over a CQL server", [crate::SCHEMA], {
    an_acknowledgement_that_was_decided_is_finished_by_whoever_comes
    who_pays_late_changes_nothing
    a_chunk_sent_and_acknowledged_twice_at_once_counts_once
    of_two_chunks_at_once_one_is_pending_and_both_are_charged
    two_at_once_do_not_overdraw_the_budget
    a_fact_that_another_process_hears_while_identity_answers_is_not_missed
    a_chunk_over_a_head_that_was_replaced_meanwhile_is_made_again
    a_book_of_which_too_much_was_removed_is_sent_whole
    nothing_is_left_of_a_book_that_was_forgotten
    blocks_of_two_processes_at_once_all_count
} }
