//! Each rule by itself: one process, its requests answered by hand.

use std::time::Duration;

use dialtone_vocab::{Epoch, ShardId};

use crate::lease::defect::Sabotage;
use crate::lease::limits::{LEASE, LOOK_AGAIN, RENEW_EVERY, RETRY, WAIT};
use crate::lease::*;

const ME: Incarnation = Incarnation(1);
const OLD: Incarnation = Incarnation(2);
const KEY: ShardKey = ShardKey { service: "routing", shard: ShardId(7) };
const MS: Duration = Duration::from_millis(1);

/// A process whose requests wait for the test to answer them.
struct Desk {
    lease: Lease,
    now: Moment,
    asked: Vec<(Ticket, Request)>,
    /// Whether looks at the shard's row are answered as time passes.
    looks: bool,
}

impl Desk {
    fn new(by: CheckBy) -> Self {
        Self {
            lease: Lease::sabotaged(by, Sabotage::default()),
            now: Duration::from_secs(100),
            asked: Vec::new(),
            looks: false,
        }
    }

    /// With a lease from now on.
    fn begun(by: CheckBy) -> Self {
        let mut desk = Self::new(by);
        desk.say(Event::Begin(ME));
        assert_eq!(
            desk.answer(Request::Renew { incarnation: ME, seen: 0 }, Answer::Applied),
            [Effect::Renewed(ME, 1)]
        );
        desk
    }

    /// With the shard in epoch 1.
    fn holding(by: CheckBy) -> (Self, Holding) {
        let (mut desk, held) = (Self::begun(by), held(1));
        desk.say(Event::Want(KEY));
        desk.answer(Request::ReadShard(KEY), Answer::Shard(ShardRow::default()));
        assert_eq!(desk.answer(take(row(0, None)), Answer::Applied), [Effect::Opened(held)]);
        (desk, held)
    }

    /// Waits for the shard, whose row has this owner in epoch 3 and whose node row is at 5.
    fn waiting() -> Self {
        let mut desk = Self::begun(CheckBy::Clock);
        desk.say(Event::Want(KEY));
        desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, Some(OLD))));
        desk.answer(Request::ReadNode(OLD), Answer::Node(open(5)));
        desk.looks = true;
        desk
    }

    fn say(&mut self, event: Event) -> Vec<Effect> {
        let mut told = self.lease.handle(event, self.now);
        for effect in &told {
            if let Effect::Ask(ticket, request) = effect {
                self.asked.push((*ticket, *request));
            }
        }
        told.retain(|effect| !matches!(effect, Effect::Ask(..)));
        told
    }

    /// Answers a request that waits.
    #[track_caller]
    fn answer(&mut self, request: Request, answer: Answer) -> Vec<Effect> {
        let at = self.asked.iter().position(|(_, asked)| *asked == request);
        let (ticket, _) =
            self.asked.remove(at.unwrap_or_else(|| panic!("{request:?} not in {:?}", self.asked)));
        self.say(Event::Answer(ticket, answer))
    }

    fn is_asked(&self, request: Request) -> bool {
        self.asked.iter().any(|(_, asked)| *asked == request)
    }

    /// Time passes, with ticks. Every renewal is applied as soon as it is asked for, and whoever looks again at the
    /// shard's row finds what [`Desk::waiting`] had found.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = until.min(self.now + 50 * MS);
            self.say(Event::Tick);
            self.routine();
        }
    }

    fn routine(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        for (ticket, request) in asked {
            match request {
                Request::Renew { incarnation: ME, .. } => self.say(Event::Answer(ticket, Answer::Applied)),
                Request::ReadShard(_) if self.looks => {
                    self.say(Event::Answer(ticket, Answer::Shard(row(3, Some(OLD)))))
                }
                _ => {
                    self.asked.push((ticket, request));
                    continue;
                }
            };
        }
    }

    fn tick_at(&mut self, now: Moment) -> Vec<Effect> {
        self.now = now;
        self.say(Event::Tick)
    }
}

fn held(epoch: u64) -> Holding {
    Holding { key: KEY, epoch: Epoch(epoch) }
}

fn row(epoch: u64, owner: Option<Incarnation>) -> ShardRow {
    ShardRow { epoch: Epoch(epoch), owner }
}

fn open(counter: u64) -> Option<NodeRow> {
    Some(NodeRow { counter, open: true })
}

fn closed(counter: u64) -> Option<NodeRow> {
    Some(NodeRow { counter, open: false })
}

fn take(seen: ShardRow) -> Request {
    Request::Take { key: KEY, seen, by: ME }
}

fn renewal(seen: u64) -> Request {
    Request::Renew { incarnation: ME, seen }
}

fn give_back(epoch: u64) -> Request {
    Request::GiveBack { held: held(epoch), by: ME }
}

const CLOSE_OLD: Request = Request::Close { incarnation: OLD, seen: 5 };

#[test]
fn a_lease_is_renewed_every_quarter_and_lasts_from_the_sending() {
    let (mut desk, held) = Desk::holding(CheckBy::Clock);
    let began = desk.now;
    desk.tick_at(began + RENEW_EVERY - MS);
    assert!(!desk.is_asked(renewal(1)));
    desk.tick_at(began + RENEW_EVERY);
    desk.now = began + LEASE - MS;
    assert_eq!(desk.answer(renewal(1), Answer::Applied), [Effect::Renewed(ME, 2)]);
    desk.now = began + RENEW_EVERY + LEASE - MS;
    assert_eq!(desk.say(Event::Arrived(held, 1)), [Effect::Settled(1)]);
    desk.now += MS;
    assert_eq!(desk.say(Event::Arrived(held, 2)), [Effect::Stop, Effect::Unsettled(2)]);
}

#[test]
fn a_refused_renewal_was_an_earlier_try_and_counts_from_its_sending() {
    let (mut desk, held) = Desk::holding(CheckBy::Clock);
    let sent = desk.now + RENEW_EVERY;
    desk.tick_at(sent);
    desk.now += RETRY;
    desk.answer(renewal(1), Answer::Unknown);
    desk.tick_at(desk.now + RETRY - MS);
    assert!(!desk.is_asked(renewal(1)), "not at once");
    desk.tick_at(desk.now + MS);
    desk.answer(renewal(1), Answer::Refused);
    assert_eq!(desk.answer(Request::ReadNode(ME), Answer::Node(open(2))), [Effect::Renewed(ME, 2)]);
    desk.now = sent + LEASE - MS;
    assert_eq!(desk.say(Event::Arrived(held, 1)), [Effect::Settled(1)]);
    assert_eq!(desk.tick_at(sent + LEASE), [Effect::Stop]);
}

#[test]
fn a_first_try_that_was_late_gives_no_lease_but_the_next_one_may() {
    let mut desk = Desk::new(CheckBy::Clock);
    desk.say(Event::Want(KEY));
    desk.say(Event::Begin(ME));
    desk.now += LEASE;
    assert_eq!(desk.answer(renewal(0), Answer::Applied), [Effect::Renewed(ME, 1)]);
    assert!(!desk.is_asked(Request::ReadShard(KEY)), "without a lease nothing is taken");
    desk.answer(renewal(1), Answer::Applied);
    assert!(desk.is_asked(Request::ReadShard(KEY)));
}

#[test]
fn a_closed_own_row_ends_the_incarnation() {
    let (mut desk, held) = Desk::holding(CheckBy::Clock);
    desk.tick_at(desk.now + RENEW_EVERY);
    desk.answer(renewal(1), Answer::Refused);
    assert_eq!(desk.answer(Request::ReadNode(ME), Answer::Node(closed(1))), [Effect::Stop]);
    assert_eq!(desk.say(Event::Arrived(held, 1)), [Effect::Unsettled(1)]);
}

#[test]
fn a_lost_lease_closes_the_own_row_and_the_next_incarnation_takes_the_shard_back() {
    let (mut desk, held) = Desk::holding(CheckBy::Clock);
    desk.tick_at(desk.now + RENEW_EVERY);
    assert_eq!(desk.tick_at(desk.now + LEASE), [Effect::Stop]);
    let (next, own) = (Incarnation(9), Request::Close { incarnation: ME, seen: 1 });
    desk.answer(own, Answer::Refused);
    desk.say(Event::Begin(next));
    desk.answer(Request::Renew { incarnation: next, seen: 0 }, Answer::Applied);
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(1, Some(ME))));
    let again = Request::Take { key: KEY, seen: row(1, Some(ME)), by: next };
    // The renewal that was under way had come first, so the row is closed with the counter that it made.
    desk.answer(Request::ReadNode(ME), Answer::Node(open(2)));
    assert!(!desk.is_asked(again), "not closed yet");
    desk.answer(Request::Close { incarnation: ME, seen: 2 }, Answer::Applied);
    let held_again = Holding { epoch: Epoch(2), ..held };
    assert_eq!(desk.answer(again, Answer::Applied), [Effect::Opened(held_again)]);
    assert_eq!(desk.say(Event::Arrived(held, 1)), [Effect::Unsettled(1)], "a write of before");
    assert_eq!(desk.say(Event::Arrived(held_again, 2)), [Effect::Settled(2)]);
}

#[test]
fn answers_to_a_former_incarnation_mean_nothing() {
    let mut desk = Desk::begun(CheckBy::Clock);
    desk.say(Event::Want(KEY));
    desk.answer(Request::ReadShard(KEY), Answer::Shard(ShardRow::default()));
    desk.tick_at(desk.now + RENEW_EVERY);
    desk.tick_at(desk.now + LEASE);
    desk.say(Event::Begin(Incarnation(9)));
    assert_eq!(desk.answer(take(row(0, None)), Answer::Applied), []);
    assert_eq!(desk.answer(renewal(1), Answer::Applied), []);
}

#[test]
fn another_is_closed_when_its_counter_has_been_unchanged_for_the_whole_wait() {
    let mut desk = Desk::waiting();
    desk.pass(WAIT - MS);
    assert!(!desk.is_asked(CLOSE_OLD));
    desk.pass(MS);
    assert!(desk.is_asked(CLOSE_OLD));
    assert!(!desk.is_asked(take(row(3, Some(OLD)))), "it is not closed yet");
    desk.answer(CLOSE_OLD, Answer::Applied);
    assert_eq!(desk.answer(take(row(3, Some(OLD))), Answer::Applied), [Effect::Opened(held(4))]);
}

#[test]
fn a_change_that_is_heard_begins_the_wait_anew_and_a_late_one_does_not() {
    let mut desk = Desk::waiting();
    desk.pass(WAIT - MS);
    desk.say(Event::Heard(OLD, 6));
    desk.pass(WAIT - MS);
    desk.say(Event::Heard(OLD, 6));
    desk.say(Event::Heard(OLD, 4));
    let close = Request::Close { incarnation: OLD, seen: 6 };
    assert!(!desk.is_asked(close));
    desk.pass(MS);
    assert!(desk.is_asked(close));
}

#[test]
fn a_change_that_nobody_heard_refuses_the_closing_and_begins_the_wait_anew() {
    let mut desk = Desk::waiting();
    desk.pass(WAIT);
    desk.answer(CLOSE_OLD, Answer::Refused);
    desk.answer(Request::ReadNode(OLD), Answer::Node(open(8)));
    let close = Request::Close { incarnation: OLD, seen: 8 };
    desk.pass(WAIT - MS);
    assert!(!desk.is_asked(close));
    desk.pass(MS);
    assert!(desk.is_asked(close));
}

#[test]
fn an_unknown_closing_is_read_and_a_row_closed_by_another_serves_as_well() {
    let mut desk = Desk::waiting();
    desk.pass(WAIT);
    desk.answer(CLOSE_OLD, Answer::Unknown);
    desk.pass(RETRY);
    assert!(!desk.is_asked(CLOSE_OLD), "read first");
    desk.answer(Request::ReadNode(OLD), Answer::Node(closed(5)));
    assert!(desk.is_asked(take(row(3, Some(OLD)))));
}

#[test]
fn an_unknown_taking_is_read_until_it_is_known() {
    let mut desk = Desk::begun(CheckBy::Clock);
    desk.say(Event::Want(KEY));
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, None)));
    assert_eq!(desk.answer(take(row(3, None)), Answer::Unknown), []);
    desk.pass(RETRY);
    assert_eq!(desk.answer(Request::ReadShard(KEY), Answer::Unknown), []);
    desk.pass(RETRY);
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, None)));
    desk.answer(take(row(3, None)), Answer::Refused);
    assert_eq!(
        desk.answer(Request::ReadShard(KEY), Answer::Shard(row(4, Some(ME)))),
        [Effect::Opened(held(4))]
    );
}

#[test]
fn a_race_that_is_lost_is_waited_for() {
    let mut desk = Desk::begun(CheckBy::Clock);
    desk.say(Event::Want(KEY));
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, None)));
    desk.answer(take(row(3, None)), Answer::Refused);
    assert_eq!(desk.answer(Request::ReadShard(KEY), Answer::Shard(row(4, Some(OLD)))), []);
    assert!(desk.is_asked(Request::ReadNode(OLD)));
    assert!(!desk.is_asked(take(row(4, Some(OLD)))));
}

#[test]
fn a_released_shard_settles_nothing_before_its_row_says_so() {
    let (mut desk, held) = Desk::holding(CheckBy::Clock);
    assert_eq!(desk.say(Event::Release(KEY)), []);
    assert_eq!(desk.say(Event::Arrived(held, 1)), [Effect::Unsettled(1)]);
    assert_eq!(desk.answer(give_back(1), Answer::Applied), [Effect::Gone(KEY, Some(Epoch(1)))]);
}

#[test]
fn a_shard_given_back_is_taken_without_waiting() {
    let mut desk = Desk::waiting();
    desk.say(Event::Want(KEY));
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, None)));
    assert_eq!(desk.answer(take(row(3, None)), Answer::Applied), [Effect::Opened(held(4))]);
}

#[test]
fn a_shard_heard_to_be_given_back_is_taken_without_a_look_and_a_wrong_word_costs_one_try() {
    let mut desk = Desk::waiting();
    desk.say(Event::Freed(KEY, Epoch(3)));
    desk.answer(take(row(3, None)), Answer::Refused);
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, Some(OLD))));
    assert!(!desk.is_asked(take(row(3, None))), "it is waited for again");
}

#[test]
fn a_word_that_comes_during_a_look_counts_when_the_look_is_over() {
    let mut desk = Desk::begun(CheckBy::Clock);
    desk.say(Event::Want(KEY));
    desk.say(Event::Freed(KEY, Epoch(3)));
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, Some(OLD))));
    assert_eq!(desk.answer(take(row(3, None)), Answer::Applied), [Effect::Opened(held(4))]);
}

#[test]
fn who_leaves_holds_nothing_at_once_and_has_left_when_its_row_is_closed() {
    let (mut desk, held) = Desk::holding(CheckBy::Clock);
    assert_eq!(desk.say(Event::Leave), [Effect::Stop]);
    assert_eq!(desk.say(Event::Arrived(held, 1)), [Effect::Unsettled(1)]);
    assert!(!desk.lease.has_left());
    let closing = desk.asked.iter().find_map(|(_, request)| match request {
        Request::Close { incarnation: ME, .. } => Some(*request),
        _ => None,
    });
    desk.answer(closing.expect("its own row is closed"), Answer::Applied);
    assert!(desk.lease.has_left());
}

#[test]
fn who_is_heard_to_have_left_is_looked_at_and_need_not_be_waited_for() {
    let mut desk = Desk::waiting();
    desk.say(Event::Left(OLD));
    desk.answer(Request::ReadNode(OLD), Answer::Node(Some(NodeRow { counter: 9, open: false })));
    assert!(desk.is_asked(take(row(3, Some(OLD)))));
}

#[test]
fn a_word_that_one_has_left_counts_though_a_look_was_under_way() {
    let mut desk = Desk::begun(CheckBy::Clock);
    desk.say(Event::Want(KEY));
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, Some(OLD))));
    desk.say(Event::Left(OLD));
    desk.answer(Request::ReadNode(OLD), Answer::Node(open(5)));
    desk.answer(Request::ReadNode(OLD), Answer::Node(Some(NodeRow { counter: 5, open: false })));
    assert!(desk.is_asked(take(row(3, Some(OLD)))));
}

#[test]
fn a_shard_that_somebody_holds_is_looked_at_again_without_being_told() {
    let mut desk = Desk::waiting();
    let began = desk.now;
    desk.pass(LOOK_AGAIN - MS);
    assert!(!desk.is_asked(Request::ReadShard(KEY)));
    desk.tick_at(began + LOOK_AGAIN);
    assert!(desk.is_asked(Request::ReadShard(KEY)));
}

#[test]
fn what_was_ones_own_a_moment_ago_is_acquired_anew() {
    let (mut desk, held) = Desk::holding(CheckBy::Clock);
    desk.say(Event::Release(KEY));
    desk.say(Event::Want(KEY));
    assert_eq!(desk.say(Event::Arrived(held, 1)), [Effect::Unsettled(1)]);
    desk.answer(give_back(1), Answer::Unknown);
    desk.pass(RETRY);
    assert_eq!(desk.answer(Request::ReadShard(KEY), Answer::Shard(row(1, Some(ME)))), []);
    let second = Holding { epoch: Epoch(2), ..held };
    assert_eq!(desk.answer(take(row(1, Some(ME))), Answer::Applied), [Effect::Opened(second)]);
}

#[test]
fn an_unknown_giving_back_is_repeated_until_the_row_says_so() {
    let (mut desk, _) = Desk::holding(CheckBy::Clock);
    desk.say(Event::Release(KEY));
    desk.answer(give_back(1), Answer::Unknown);
    desk.pass(RETRY);
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(1, Some(ME))));
    desk.answer(give_back(1), Answer::Refused);
    let told = desk.answer(Request::ReadShard(KEY), Answer::Shard(row(2, Some(OLD))));
    assert_eq!(told, [Effect::Gone(KEY, None)], "somebody has it already");
}

#[test]
fn a_taking_of_what_is_not_wanted_any_more_is_followed_to_its_end() {
    let mut desk = Desk::begun(CheckBy::Clock);
    desk.say(Event::Want(KEY));
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, None)));
    desk.say(Event::Release(KEY));
    desk.answer(take(row(3, None)), Answer::Unknown);
    desk.pass(RETRY);
    desk.answer(Request::ReadShard(KEY), Answer::Shard(row(3, None)));
    // Else the first try, still under way, could take it for somebody who does not know.
    assert_eq!(desk.answer(take(row(3, None)), Answer::Applied), [], "never opened");
    assert_eq!(desk.answer(give_back(4), Answer::Applied), [Effect::Gone(KEY, Some(Epoch(4)))]);
}

#[test]
fn a_read_settles_what_had_arrived_before_it_was_sent() {
    let (mut desk, held) = Desk::holding(CheckBy::Read);
    assert_eq!(desk.say(Event::Arrived(held, 1)), []);
    assert_eq!(desk.say(Event::Arrived(held, 2)), []);
    let own = Request::ReadNode(ME);
    assert_eq!(desk.answer(own, Answer::Node(open(1))), [Effect::Settled(1)]);
    assert_eq!(desk.say(Event::Arrived(held, 3)), []);
    desk.answer(own, Answer::Unknown);
    assert!(!desk.is_asked(own), "not at once");
    desk.pass(RETRY);
    assert_eq!(
        desk.answer(own, Answer::Node(open(1))),
        [Effect::Settled(2), Effect::Settled(3)],
        "one for both"
    );
}

#[test]
fn a_read_that_finds_the_row_closed_stops_everything() {
    let (mut desk, held) = Desk::holding(CheckBy::Read);
    desk.say(Event::Arrived(held, 1));
    desk.say(Event::Arrived(held, 2));
    let told = desk.answer(Request::ReadNode(ME), Answer::Node(closed(1)));
    assert_eq!(told, [Effect::Stop, Effect::Unsettled(1), Effect::Unsettled(2)]);
}

#[test]
fn a_read_settles_nothing_of_a_shard_released_meanwhile() {
    let (mut desk, held) = Desk::holding(CheckBy::Read);
    desk.say(Event::Arrived(held, 1));
    desk.say(Event::Release(KEY));
    assert_eq!(desk.answer(Request::ReadNode(ME), Answer::Node(open(1))), [Effect::Unsettled(1)]);
}
