use std::time::Duration;

use dialtone_proto::edge::v1::{Pong, ServerFrame, server_frame::Frame};
use dialtone_vocab::{DeviceId, Epoch, UnixMillis};
use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn key() -> SessionKey {
    SessionKey { gateway: NodeId::new("gateway-1"), ticket: 7 }
}

fn attach(generation: u32) -> bus::Attach {
    bus::Attach { generation, device: 1, ..Default::default() }
}

fn frame(nonce: u64) -> ServerFrame {
    ServerFrame { frame: Some(Frame::Pong(Pong { nonce, server_time_ms: 0 })) }
}

fn nonces(frames: &[ServerFrame]) -> Vec<u64> {
    frames.iter().map(|f| if let Some(Frame::Pong(pong)) = &f.frame { pong.nonce } else { 0 }).collect()
}

fn both() -> (Attachments<()>, Link) {
    let (mut owner, mut link) = (Attachments::default(), Link::default());
    let generation = link.begin(UnixMillis(0));
    assert_eq!(owner.attach(key(), &attach(generation), at(0), ()), Joined::New);
    assert!(link.attached(&bus::Attached { generation, ..Default::default() }));
    (owner, link)
}

fn send(owner: &mut Attachments<()>, nonce: u64) -> bus::Frames {
    owner.get_mut(&key()).expect("attached").number(Epoch(0), vec![frame(nonce)])
}

#[test]
fn a_repeat_is_passed_on_once() {
    let (mut owner, mut link) = both();
    let batch = send(&mut owner, 1);
    assert_eq!(link.frames(batch.clone(), UnixMillis(0)), Received::Next(vec![frame(1)]));
    assert_eq!(link.frames(batch, UnixMillis(0)), Received::Nothing);
}

#[test]
fn a_lost_last_frame_is_noticed_by_the_second_beat() {
    let (mut owner, link) = both();
    send(&mut owner, 1);
    let beat = link.beat(7, &[]);
    assert_eq!(owner.beat(&key(), &beat, at(1000)), BeatOutcome::Behind);
    assert_eq!(owner.beat(&key(), &beat, at(2000)), BeatOutcome::Lost { generation: 1 });
}

#[test]
fn an_owner_that_forgot_says_unknown() {
    let (_, link) = both();
    let mut other: Attachments<()> = Attachments::default();
    assert_eq!(other.beat(&key(), &link.beat(7, &[]), at(0)), BeatOutcome::Unknown { generation: 1 });
}

#[test]
fn silence_detaches_after_three_seconds_and_not_before() {
    let (mut owner, _) = both();
    assert!(owner.expire(at(2_999)).is_empty());
    assert_eq!(owner.expire(at(3_000)).len(), 1);
    assert!(owner.is_empty());
}

#[test]
fn a_stale_attach_changes_nothing() {
    let (mut owner, _) = both();
    assert_eq!(owner.attach(key(), &attach(1), at(0), ()), Joined::Stale);
    assert_eq!(owner.attach(key(), &attach(2), at(0), ()), Joined::New);
}

#[test]
fn frames_of_a_former_owner_are_dropped() {
    let (_, mut link) = both();
    let generation = link.begin(UnixMillis(0));
    assert!(link.attached(&bus::Attached { generation, epoch: 5, ..Default::default() }));
    let late = bus::Frames { generation, epoch: 4, first: 1, frames: vec![frame(1)] };
    assert_eq!(link.frames(late, UnixMillis(0)), Received::Nothing);
}

#[test]
fn a_gap_that_stays_is_overdue() {
    let (mut owner, mut link) = both();
    send(&mut owner, 1);
    let second = send(&mut owner, 2);
    assert_eq!(link.frames(second, UnixMillis(10)), Received::Nothing);
    assert!(!link.is_overdue(UnixMillis(309)));
    assert!(link.is_overdue(UnixMillis(310)));
}

#[test]
fn the_newer_stream_of_a_device_is_found_once() {
    let mut owner: Attachments<()> = Attachments::default();
    let newer = SessionKey { ticket: 8, ..key() };
    owner.attach(key(), &bus::Attach { opened_ms: 5, ..attach(1) }, at(5), ());
    owner.attach(newer.clone(), &bus::Attach { opened_ms: 9, ..attach(1) }, at(9), ());
    assert_eq!(owner.older(DeviceId(1), UnixMillis(9), &newer), vec![key()]);
    assert!(owner.older(DeviceId(1), UnixMillis(5), &key()).is_empty());
    assert!(owner.older(DeviceId(2), UnixMillis(9), &newer).is_empty());
}

proptest! {
    /// Whatever the bus does to the batches of a generation, what is passed on is a prefix of what was sent, once.
    #[test]
    fn what_is_passed_on_is_a_prefix(order in proptest::collection::vec(0usize..20, 0..80)) {
        let (mut owner, mut link) = both();
        let batches: Vec<_> = (1..=20).map(|n| send(&mut owner, n)).collect();
        let mut passed = Vec::new();
        for index in order {
            match link.frames(batches[index].clone(), UnixMillis(0)) {
                Received::Next(frames) => passed.extend(nonces(&frames)),
                Received::Nothing => {}
                Received::AttachAgain => break,
            }
        }
        prop_assert_eq!(&passed, &(1..=passed.len() as u64).collect::<Vec<_>>());
    }
}
