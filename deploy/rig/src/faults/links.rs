//! Network links that fail (F7, F8, F10), and entries of the accept log that no gateway would write (F14).

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::evidence::GatewayInterval;
use crate::failure::Result;
use crate::fault_run::FaultRun;
use crate::proxy::NetworkCondition;
use crate::stack::LinkEnds;

/// How long a link is disturbed, in seconds. Short times are more likely than long ones: the root of the time is drawn evenly
/// between the roots of these two.
const DISTURBED_S: (f64, f64) = (1.0, 30.0);
/// Links that are disturbed at the same time.
const AT_ONCE: usize = 3;
/// Time between two lost replies.
const BETWEEN_LOSSES: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(200);
/// Time between two rounds of F10 and F14.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(500);

/// F7: links are cut, blocked in one direction or both, or slow.
pub(super) async fn cuts(run: &mut FaultRun, count: usize) -> Result<()> {
    let mut injected = 0;
    while injected < count {
        let round = AT_ONCE.min(count - injected);
        let disturbed: Vec<usize> = (0..round).map(|_| run.rng.random_range(0..run.stack.links.len())).collect();
        let time = disturbed_time(run);
        let from = run.traffic.now();
        for number in &disturbed {
            run.record_injection();
            let condition = random_condition(run);
            let link = &run.stack.links[*number];
            link.proxy.set(condition);
            if condition == NetworkCondition::Refusing {
                link.proxy.cut();
            }
        }
        sleep(time).await;
        let ends: Vec<LinkEnds> = disturbed.iter().map(|number| run.stack.links[*number].ends).collect();
        for number in disturbed {
            run.stack.links[number].proxy.clear_faults();
        }
        let until = run.traffic.now();
        let is_without_redis = ends.iter().any(|ends| matches!(ends, LinkEnds::GatewayRedis(_)));
        if is_without_redis {
            run.record_unannounced(from);
        }
        for ends in ends {
            match ends {
                LinkEnds::ClientGateway(gateway) => run.unreachable.push(GatewayInterval { gateway, from, until }),
                LinkEnds::GatewayPostgres(gateway) if is_without_redis => {
                    run.unnotified.push(GatewayInterval { gateway, from, until });
                }
                _ => {}
            }
        }
        injected += round;
        sleep(BETWEEN_ROUNDS).await;
    }
    Ok(())
}

fn disturbed_time(run: &mut FaultRun) -> Duration {
    let root = run.rng.random_range(DISTURBED_S.0.sqrt()..DISTURBED_S.1.sqrt());
    Duration::from_secs_f64(root * root)
}

fn random_condition(run: &mut FaultRun) -> NetworkCondition {
    match run.rng.random_range(0..5) {
        0 => NetworkCondition::Refusing,
        1 => NetworkCondition::Blocked { up: true, down: true },
        2 => NetworkCondition::Blocked { up: true, down: false },
        3 => NetworkCondition::Blocked { up: false, down: true },
        _ => NetworkCondition::Slow(Duration::from_millis(run.rng.random_range(20..300))),
    }
}

/// F8: a command has been executed and its reply does not arrive: the append of a gateway, the publication of a worker, the
/// commit of a worker with Postgres, the post of a client.
pub(super) async fn lost_replies(run: &mut FaultRun, count: usize) -> Result<()> {
    let lost = |run: &FaultRun| run.stack.links.iter().map(|link| link.proxy.lost_replies()).sum::<u64>();
    let wanted = u64::try_from(count)?;
    while lost(run) < wanted {
        let number = run.rng.random_range(0..run.stack.links.len());
        let link = &run.stack.links[number];
        match link.ends {
            LinkEnds::GatewayRedis(_) => link.proxy.lose_replies(b"XADD", 1),
            LinkEnds::WorkerRedis(_) => link.proxy.lose_replies(b"PUBLISH", 1),
            LinkEnds::WorkerPostgres(_) => link.proxy.lose_replies(b"COMMIT", 1),
            LinkEnds::ClientGateway(_) => link.proxy.lose_replies(b"POST ", 1),
            LinkEnds::GatewayPostgres(_) => continue,
        }
        let before = lost(run);
        sleep(run.rng.random_range(BETWEEN_LOSSES)).await;
        for _ in before..lost(run) {
            run.record_injection();
        }
    }
    Ok(())
}

/// F10: one published message in twenty does not arrive; at the end of each round the last ones do not either.
pub(super) async fn dropped_notifications(run: &mut FaultRun, count: usize) -> Result<()> {
    const ONE_IN: u64 = 20;
    let to_redis = |run: &FaultRun, one_in| {
        for link in run.stack.links.iter().filter(|link| matches!(link.ends, LinkEnds::GatewayRedis(_))) {
            link.proxy.drop_published(one_in);
        }
    };
    let from = run.traffic.now();
    to_redis(run, ONE_IN);
    for _ in 0..count {
        run.record_injection();
        sleep(BETWEEN_ROUNDS).await;
    }
    to_redis(run, 1);
    sleep(BETWEEN_ROUNDS * 4).await;
    run.record_unannounced(from);
    let dropped: u64 = run.stack.links.iter().map(|link| link.proxy.dropped_messages()).sum();
    run.notes.push(format!("{dropped} notifications dropped"));
    run.demand(dropped > 0, || "no notification was dropped at all".to_owned());
    Ok(())
}

/// F14: entries that can never be stored are put into the accept log.
pub(super) async fn poison(run: &mut FaultRun, count: usize) -> Result<()> {
    const PARTITIONS: usize = 16;
    let million = vec![b'x'; 1024 * 1024];
    let kinds: [&[u8]; 6] = [b"\0", b"\xed\xa0\x80", b"\r\nid: 1\r\n", b"", b"{\"seq\":1}", &million];
    for _ in 0..count {
        sleep(BETWEEN_ROUNDS).await;
        let partition = run.rng.random_range(0..PARTITIONS);
        let garbage = kinds[run.rng.random_range(0..kinds.len())];
        run.record_injection();
        let stream = run.stack.accept_stream(partition).await?;
        run.stack.redis.append_garbage(&stream, garbage).await?;
        run.poison += 1;
    }
    Ok(())
}
