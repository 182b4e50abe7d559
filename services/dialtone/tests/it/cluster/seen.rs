//! What one phone saw, and whether that may be.

use std::time::{Duration, Instant};

use dialtone_vocab::UserId;

use super::at_all::Told;

/// How long a user without a session must still look online.
const GRACE: Duration = Duration::from_secs(14);
/// How long after its return a peer may still be told to be offline.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// A message shown.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    /// Place in the inbox.
    pub(crate) idx: u64,
    /// Its sender's count.
    pub(crate) number: usize,
    /// When it was shown.
    pub(crate) at: Instant,
}

/// What a phone did and saw.
#[derive(Default, Clone)]
pub(crate) struct Seen {
    /// When each message was given to the session, by its number.
    pub(crate) sent: Vec<Instant>,
    /// Place in the outbox and number, as the answers came.
    pub(crate) accepted: Vec<(u64, usize)>,
    /// Messages of the peer, as they came.
    pub(crate) shown: Vec<Shown>,
    /// Streams opened.
    pub(crate) connects: usize,
    /// Why streams were lost.
    pub(crate) lost: Vec<String>,
    /// Why the session ended for good.
    pub(crate) ended: Vec<String>,
    /// Why sends were refused for good.
    pub(crate) refused: Vec<String>,
    /// The peer was told to be online.
    pub(crate) peer_was_online: bool,
    /// The peer was told to be offline though it was not; whether in a snapshot.
    pub(crate) offline_told: Vec<bool>,
    away_since: Option<Instant>,
    /// Since when it was away the last time, and when it was back.
    was_away: Option<(Instant, Instant)>,
}

impl Seen {
    pub(crate) fn connected(&mut self) {
        self.connects += 1;
        if let Some(since) = self.away_since.take() {
            self.was_away = Some((since, Instant::now()));
        }
    }

    pub(crate) fn disconnected(&mut self, why: String) {
        self.lost.push(why);
        self.away_since.get_or_insert_with(Instant::now);
    }

    pub(crate) fn shows(&mut self, idx: u64, number: usize) {
        self.shown.push(Shown { idx, number, at: Instant::now() });
    }

    /// Where what it saw stands in its user's logs.
    pub(crate) fn told(&self, user: UserId) -> Told {
        let shown = self.shown.iter().map(|shown| (shown.idx, shown.number)).collect();
        Told { user, accepted: self.accepted.iter().copied().collect(), shown }
    }

    pub(crate) fn peer_is(&mut self, is_online: bool, may_be_away: bool, is_snapshot: bool) {
        self.peer_was_online |= is_online;
        if !is_online && !may_be_away {
            self.offline_told.push(is_snapshot);
        }
    }

    /// Whether it was away for so long that it may be told to be offline.
    pub(crate) fn may_be_away(&self) -> bool {
        let is_long = |since: Instant, until: Instant| until - since >= GRACE;
        let now = Instant::now();
        self.away_since.is_some_and(|since| is_long(since, now))
            || self
                .was_away
                .is_some_and(|(since, until)| is_long(since, until) && until.elapsed() < BACK_WITHIN)
    }

    /// What is wrong with what this phone sent and with what it saw of its peer; empty if nothing is.
    pub(crate) fn wrongs(&self, receiver: &Self) -> Vec<String> {
        let mut wrongs = Vec::new();
        if !self.accepted.is_sorted_by(|a, b| a < b) || self.accepted.iter().any(|(idx, _)| *idx == 0) {
            wrongs.push("accepted out of order or twice".to_owned());
        }
        let accepted: Vec<usize> = self.accepted.iter().map(|(_, number)| *number).collect();
        if accepted != (0..self.sent.len()).collect::<Vec<_>>() {
            wrongs.push(format!("{} of {} sends were accepted", accepted.len(), self.sent.len()));
        }
        let shown: Vec<usize> = receiver.shown.iter().map(|shown| shown.number).collect();
        if shown != accepted {
            let at = shown.iter().zip(&accepted).position(|(shown, accepted)| shown != accepted);
            wrongs.push(format!(
                "{} accepted and {} shown, which differ at {at:?}: lost, twice or out of order",
                accepted.len(),
                shown.len()
            ));
        }
        if !self.ended.is_empty() || !self.refused.is_empty() {
            wrongs.push(format!("logged out: {:?}; refused: {:?}", self.ended, self.refused));
        }
        wrongs
    }
}

#[test]
fn what_is_lost_shown_twice_or_out_of_order_is_seen() {
    let now = Instant::now();
    let sender = Seen { sent: vec![now; 3], accepted: vec![(1, 0), (2, 1), (5, 2)], ..Seen::default() };
    let shown = |numbers: &[usize]| Seen {
        shown: numbers.iter().zip(1..).map(|(number, idx)| Shown { idx, number: *number, at: now }).collect(),
        ..Seen::default()
    };
    assert_eq!(sender.wrongs(&shown(&[0, 1, 2])), Vec::<String>::new());
    for bad in [&[0, 1][..], &[0, 1, 1, 2], &[0, 2, 1], &[0, 1, 2, 2]] {
        assert_eq!(sender.wrongs(&shown(bad)).len(), 1, "{bad:?}");
    }
    let unanswered = Seen { accepted: vec![(1, 0), (2, 1)], ..sender.clone() };
    assert_eq!(unanswered.wrongs(&shown(&[0, 1])).len(), 1);
    let ended = Seen { ended: vec!["SESSION_REVOKED".into()], ..sender };
    assert_eq!(ended.wrongs(&shown(&[0, 1, 2])).len(), 1);
}

#[test]
fn offline_may_be_told_of_who_was_away_for_long_and_of_nobody_else() {
    let now = Instant::now();
    let before =
        |seconds| now.checked_sub(Duration::from_secs(seconds)).expect("the machine runs for longer");
    assert!(!Seen::default().may_be_away());
    assert!(!Seen { away_since: Some(before(5)), ..Seen::default() }.may_be_away());
    assert!(Seen { away_since: Some(before(20)), ..Seen::default() }.may_be_away());
    assert!(Seen { was_away: Some((before(20), before(1))), ..Seen::default() }.may_be_away());
    assert!(!Seen { was_away: Some((before(30), before(10))), ..Seen::default() }.may_be_away());
    assert!(!Seen { was_away: Some((before(5), before(1))), ..Seen::default() }.may_be_away());
}
