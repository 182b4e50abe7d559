use tokio::sync::{mpsc, oneshot};

use super::*;

/// Counts; panics when told to; says when it is opened.
struct Counter {
    n: u64,
}

enum Message {
    Add(oneshot::Sender<u64>),
    Panic,
}

impl Resident for Counter {
    type Message = Message;
    type Shared = mpsc::UnboundedSender<UserId>;

    async fn open(opened: &Self::Shared, user: UserId) -> Option<Self> {
        opened.send(user).expect("the test listens");
        Some(Self { n: 0 })
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Add(answer) => {
                self.n += 1;
                answer.send(self.n).expect("awaited");
            }
            Message::Panic => panic!("on purpose"),
        }
    }

    async fn tick(&mut self) -> Rest {
        Rest::MayLeave
    }
}

async fn add(hive: &Hive<Counter>, user: UserId) -> u64 {
    let (sender, answer) = oneshot::channel();
    hive.send(user, Message::Add(sender)).expect("room");
    answer.await.expect("answered")
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_users_actor_touches_nobody_else() {
    let (opened, _listener) = mpsc::unbounded_channel();
    let hive = Hive::<Counter>::start(&Chassis::for_tests(1), "test", opened).await;
    let users: Vec<_> = (0..40).map(|n| UserId::new([n; 16])).collect();
    for user in &users {
        assert_eq!(add(&hive, *user).await, 1);
    }
    hive.send(users[7], Message::Panic).expect("room");
    for user in &users {
        let after = add(&hive, *user).await;
        assert_eq!(after, if *user == users[7] { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_resident_to_which_something_came_meanwhile_stays() {
    let (opened, _listener) = mpsc::unbounded_channel();
    let hive = Hive::<Counter>::start(&Chassis::for_tests(1), "test", opened).await;
    let user = UserId::new([1; 16]);
    assert_eq!(add(&hive, user).await, 1);
    let keeper = hive.keeper(user);
    let actor = keeper.homes.read()[&user].actor.get_id();
    // It asked when it had seen the first; the second comes before its keeper looks.
    let asks = || keeper.actor.send_message(ToKeeper::Leave(user, actor, 1)).expect("it lives");
    let (sender, answer) = oneshot::channel();
    asks();
    hive.send(user, Message::Add(sender)).expect("room");
    assert_eq!(answer.await, Ok(2));
    assert_eq!(add(&hive, user).await, 3, "the same resident");
    keeper.actor.send_message(ToKeeper::Leave(user, actor, 3)).expect("it lives");
    while keeper.homes.read().contains_key(&user) {
        tokio::task::yield_now().await;
    }
    assert_eq!(add(&hive, user).await, 1, "made anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn messages_of_one_caller_arrive_in_order_while_their_resident_is_made() {
    /// Notes the numbers it gets.
    struct Notes(mpsc::UnboundedSender<u64>);

    impl Resident for Notes {
        type Message = u64;
        type Shared = mpsc::UnboundedSender<u64>;

        async fn open(notes: &Self::Shared, _: UserId) -> Option<Self> {
            Some(Self(notes.clone()))
        }

        async fn handle(&mut self, message: u64) {
            self.0.send(message).expect("the test listens");
        }

        async fn tick(&mut self) -> Rest {
            Rest::Calm
        }
    }

    let (notes, mut noted) = mpsc::unbounded_channel();
    let chassis = Chassis::real(dialtone_vocab::NodeId::new("test"));
    let hive = Hive::<Notes>::start(&chassis, "test", notes).await;
    for user in 0..200_u8 {
        for n in 0..100 {
            hive.send(UserId::new([user; 16]), n).expect("room");
        }
        for n in 0..100 {
            assert_eq!(noted.recv().await, Some(n), "user {user}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn quiet_residents_leave_and_come_back() {
    let chassis = Chassis::for_tests(1);
    let (opened, mut listener) = mpsc::unbounded_channel();
    let hive = Hive::<Counter>::start(&chassis, "test", opened).await;
    let user = UserId::new([1; 16]);
    assert_eq!(add(&hive, user).await, 1);
    assert_eq!(add(&hive, user).await, 2);
    chassis.clock.sleep(TICK_EVERY * (QUIET_TICKS + 4)).await;
    assert_eq!(add(&hive, user).await, 1, "made anew");
    assert_eq!((listener.recv().await, listener.recv().await), (Some(user), Some(user)));
}
