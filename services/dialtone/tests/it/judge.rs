//! What the phones saw, and whether that may be.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_routing::ledger::Ledger;

/// What happened to the messages, by their texts.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Accepted: place in the outbox and text, in the order of acceptance, by sender.
    pub(crate) accepted: BTreeMap<usize, Vec<(u64, String)>>,
    /// Told to the sender: it failed, or the operator never answered. Then it need not have arrived, and still may not
    /// have arrived twice.
    pub(crate) ended: BTreeSet<(usize, u64)>,
    /// Refused for good.
    pub(crate) refused: BTreeSet<String>,
    /// Shown as data: (sender, text) in order, by receiver.
    pub(crate) shown: BTreeMap<usize, Vec<(usize, String)>>,
    /// On handsets as SMS: texts, with repeats.
    pub(crate) sms: Vec<String>,
    /// Everything in order: printed when one seed is run alone.
    pub(crate) trace: Vec<String>,
}

impl Journal {
    /// What is wrong; empty if nothing is.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        let mut data: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, text) in self.shown.values().flatten() {
            *data.entry(text).or_default() += 1;
        }
        let mut sms: BTreeMap<&str, usize> = BTreeMap::new();
        for text in &self.sms {
            *sms.entry(text).or_default() += 1;
        }
        let accepted = self
            .accepted
            .iter()
            .flat_map(|(sender, sent)| sent.iter().map(move |(idx, text)| (*sender, *idx, text)));
        for (sender, idx, text) in accepted {
            let ends =
                (data.get(text.as_str()).copied().unwrap_or(0), sms.get(text.as_str()).copied().unwrap_or(0));
            match ends {
                (1, 0) | (0, 1) => {}
                (0, 0) if self.ended.contains(&(sender, idx)) => {}
                (0, 0) => wrongs.push(format!("lost: {text}")),
                (_, 0) => wrongs.push(format!("shown {} times: {text}", ends.0)),
                (0, _) => wrongs.push(format!("{} SMS: {text}", ends.1)),
                _ => wrongs.push(format!("shown as data and sent as SMS: {text}")),
            }
        }
        for (receiver, shown) in &self.shown {
            for sender in 0..8 {
                let numbers: Vec<u64> = shown
                    .iter()
                    .filter(|(from, _)| *from == sender)
                    .filter_map(|(_, text)| number(text))
                    .collect();
                if !numbers.is_sorted() {
                    wrongs.push(format!("out of order at {receiver} from {sender}: {numbers:?}"));
                }
            }
        }
        wrongs
    }

    /// What the server's ledger says otherwise than the phones, when everybody is online and nothing is under way.
    pub(crate) fn wrongs_of(&self, ledger: &Ledger) -> Vec<String> {
        let count = |sizes: usize| u64::try_from(sizes).unwrap_or(u64::MAX);
        let accepted = count(self.accepted.values().map(Vec::len).sum());
        let shown = count(self.shown.values().map(Vec::len).sum());
        let told = Ledger { accepted, delivered: shown, ..Ledger::default() };
        // Not all that went as SMS arrived: the sender was told, and it is the phones' journals that find what is lost.
        let seen = Ledger { sms: 0, failed: 0, ..*ledger };
        let mut wrongs = Vec::new();
        if ledger.difference() != 0 || told != seen {
            wrongs.push(format!("the ledger: {ledger:?}; the phones: {accepted} accepted, {shown} shown"));
        }
        wrongs
    }
}

/// The running number of a text.
fn number(text: &str) -> Option<u64> {
    text.rsplit(' ').next()?.parse().ok()
}

#[test]
fn the_judge_sees_every_kind_of_wrong() {
    let good = || {
        let mut journal = Journal::default();
        journal.accepted.insert(0, vec![(1, "m 1".into()), (2, "m 2".into()), (3, "m 3".into())]);
        journal.shown.insert(1, vec![(0, "m 1".into()), (0, "m 2".into())]);
        journal.sms.push("m 3".into());
        journal
    };
    assert_eq!(good().wrongs(), Vec::<String>::new());
    let mut lost = good();
    lost.sms.clear();
    assert_eq!(lost.wrongs().len(), 1);
    lost.ended.insert((0, 3));
    assert_eq!(lost.wrongs().len(), 0, "the sender was told");
    let mut both = good();
    both.sms.push("m 1".into());
    assert_eq!(both.wrongs().len(), 1);
    let mut twice = good();
    twice.sms.push("m 3".into());
    assert_eq!(twice.wrongs().len(), 1);
    let mut disorder = good();
    disorder.shown.insert(1, vec![(0, "m 2".into()), (0, "m 1".into())]);
    assert_eq!(disorder.wrongs().len(), 1);
    let mut again = good();
    again.shown.insert(1, vec![(0, "m 1".into()), (0, "m 1".into()), (0, "m 2".into())]);
    assert_eq!(again.wrongs().len(), 1);
}

#[test]
fn the_judge_compares_the_ledger_with_the_phones() {
    let mut journal = Journal::default();
    journal.accepted.insert(0, vec![(1, "m 1".into()), (2, "m 2".into())]);
    journal.shown.insert(1, vec![(0, "m 1".into())]);
    let good = Ledger { accepted: 2, delivered: 1, sms: 1, ..Ledger::default() };
    assert_eq!(journal.wrongs_of(&good), Vec::<String>::new());
    for bad in [
        Ledger { accepted: 3, waiting: 1, ..good },
        Ledger { sms: 2, ..good },
        Ledger { sms: 0, kept: 1, ..good },
        Ledger { sms: 0, delivered: 2, ..good },
    ] {
        assert_eq!(journal.wrongs_of(&bad).len(), 1, "{bad:?}");
    }
}
