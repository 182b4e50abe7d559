//! The process dies at any write of what makes a device, and who asks again gets what it would have got.

use std::time::Duration;

use dialtone_proto::identity::v1::with_code_response::Outcome;
use dialtone_proto::identity::v1::{self as proto};
use dialtone_store::MemoryDisk;
use dialtone_vocab::Reason;
use futures::future::join;
use tonic::Status;

use crate::world::*;

const WRITE: Duration = Duration::from_millis(100);

async fn slow() -> World {
    start_over(MemoryDisk::with_delay(WRITE..=WRITE), 1_000).await
}

/// What comes of a call whose write after so many others is lost, with all behind it.
async fn losing<T>(
    world: &World,
    writes: u32,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let fails = async {
        if let Some(before) = writes.checked_sub(1) {
            // While the one before it is being written.
            world.chassis.clock.sleep(WRITE * before + WRITE / 2).await;
        }
        world.disk.fail_next(1);
    };
    join(fails, call).await.1
}

fn refresh_of(tokens: &Option<proto::Tokens>) -> String {
    tokens.as_ref().expect("tokens").refresh.clone()
}

#[tokio::test(start_paused = true)]
async fn a_registration_goes_on_from_wherever_the_process_died() {
    // The device, the fact, the owner, the session, that the device has it, the end of the flow.
    for writes in 0..6 {
        let mut world = slow().await;
        let flow = world.create(ANNA).await.flow_id;
        world.send_code(&flow).await.expect("sent");
        let code = code(&world.sms().await);
        assert_eq!(world.check(&flow, &code).await.expect("answered"), passed(ANNA));
        let outcome = losing(&world, writes, world.complete(&flow, 1, "Anna")).await;
        match &outcome {
            Ok(_) => assert_eq!(writes, 5, "it had done its part"),
            Err(_) => assert_eq!(reason(outcome.clone()), Reason::StoreUnavailable, "after {writes}"),
        }
        let world = world.restart().await;
        assert_eq!(world.check(&flow, &code).await.expect("answered"), passed(ANNA));
        let anna = world.complete(&flow, 1, "Anna").await.expect("registered");
        if let Ok(before) = outcome {
            assert_eq!(refresh_of(&before.tokens), refresh_of(&anna.tokens), "the same answer");
        }
        let tokens = anna.tokens.expect("tokens");
        assert_eq!((anna.device, world.sessions(&tokens.access).await.len()), (1, 1), "after {writes}");
        assert_eq!(world.get(&tokens.access).await.expect("let in").nickname, "Anna");
        world.refresh(&tokens.refresh).await.expect("rotated");
        assert_eq!(reason(world.complete(&flow, 1, "Anna").await), Reason::FlowExpired, "and once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_by_code_goes_on_from_wherever_the_process_died() {
    // The try, that it passed, the device, the session, that the device has it, the end of the flow.
    for writes in 0..6 {
        let mut world = slow().await;
        world.register(ANNA, 1, "").await;
        world.pass(PAUSE).await;
        let flow = world.request_code(ANNA).await.expect("sent").flow_id;
        let code = code(&world.sms().await);
        let key = device_key(2).verifying_key().as_bytes().to_vec();
        let outcome = losing(&world, writes, world.with_code(&flow, &code, &key, "laptop")).await;
        match &outcome {
            Ok(_) => assert_eq!(writes, 5, "it had done its part"),
            Err(_) => assert_eq!(reason(outcome.clone()), Reason::StoreUnavailable, "after {writes}"),
        }
        let world = world.restart().await;
        let again = world.with_code(&flow, &code, &key, "laptop").await.expect("answered");
        let Outcome::Passed(laptop) = again else { panic!("not passed after {writes}") };
        if let Ok(Outcome::Passed(before)) = outcome {
            assert_eq!(refresh_of(&before.tokens), refresh_of(&laptop.tokens), "the same answer");
        }
        let tokens = laptop.tokens.expect("tokens");
        assert_eq!((laptop.device, world.sessions(&tokens.access).await.len()), (2, 2), "after {writes}");
        let late = world.with_code(&flow, &code, &key, "laptop").await;
        assert_eq!(reason(late), Reason::FlowExpired, "and once");
    }
}
