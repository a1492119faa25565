//! Links that fail, and what arrives over them that should not.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::evidence::Hang;
use crate::field::Field;
use crate::{Ends, Result, Weather};

/// How long a link is bad, in seconds. Short times are more likely than long ones: the root of the time is drawn evenly
/// between the roots of these two.
const BAD_S: (f64, f64) = (1.0, 30.0);
/// Links that are bad at the same time.
const AT_ONCE: usize = 3;
/// Time between two lost replies.
const BETWEEN_LOSSES: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(200);
/// Time between two rounds of F10 and F14.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(500);

/// F7.
pub(super) async fn cuts(field: &mut Field, count: usize) -> Result<()> {
    let mut struck = 0;
    while struck < count {
        let round = AT_ONCE.min(count - struck);
        let bad: Vec<usize> = (0..round).map(|_| field.rng.random_range(0..field.stack.links.len())).collect();
        let time = bad_time(field);
        let from = field.traffic.now();
        for number in &bad {
            field.strike();
            let weather = some_weather(field);
            let link = &field.stack.links[*number];
            link.proxy.set(weather);
            if weather == Weather::Refusing {
                link.proxy.cut();
            }
        }
        sleep(time).await;
        let ends: Vec<Ends> = bad.iter().map(|number| field.stack.links[*number].ends).collect();
        for number in bad {
            field.stack.links[number].proxy.heal();
        }
        let until = field.traffic.now();
        let is_silent = ends.iter().any(|ends| matches!(ends, Ends::GatewayRedis(_)));
        for ends in ends {
            match ends {
                Ends::Door(gateway) => field.dark_doors.push(Hang { gateway, from, until }),
                Ends::GatewayPostgres(gateway) if is_silent => field.untold.push(Hang { gateway, from, until }),
                _ => {}
            }
        }
        struck += round;
        sleep(BETWEEN_ROUNDS).await;
    }
    Ok(())
}

fn bad_time(field: &mut Field) -> Duration {
    let root = field.rng.random_range(BAD_S.0.sqrt()..BAD_S.1.sqrt());
    Duration::from_secs_f64(root * root)
}

fn some_weather(field: &mut Field) -> Weather {
    match field.rng.random_range(0..5) {
        0 => Weather::Refusing,
        1 => Weather::Dark { up: true, down: true },
        2 => Weather::Dark { up: true, down: false },
        3 => Weather::Dark { up: false, down: true },
        _ => Weather::Slow(Duration::from_millis(field.rng.random_range(20..300))),
    }
}

/// F8: the append has happened and the gateway does not learn of it; with Postgres also the commit and the worker.
pub(super) async fn lost_replies(field: &mut Field, count: usize) -> Result<()> {
    let lost = |field: &Field| field.stack.links.iter().map(|link| link.proxy.lost_replies()).sum::<u64>();
    let wanted = u64::try_from(count)?;
    while lost(field) < wanted {
        let number = field.rng.random_range(0..field.stack.links.len());
        let link = &field.stack.links[number];
        match link.ends {
            Ends::GatewayRedis(_) => link.proxy.lose_replies(b"XADD", 1),
            Ends::WorkerRedis(_) => link.proxy.lose_replies(b"PUBLISH", 1),
            Ends::WorkerPostgres(_) => link.proxy.lose_replies(b"COMMIT", 1),
            Ends::Door(_) => link.proxy.lose_replies(b"POST ", 1),
            Ends::GatewayPostgres(_) => continue,
        }
        let before = lost(field);
        sleep(field.rng.random_range(BETWEEN_LOSSES)).await;
        for _ in before..lost(field) {
            field.strike();
        }
    }
    Ok(())
}

/// F10: one published message in twenty does not arrive; at the end of each round the last ones do not either.
pub(super) async fn dropped_notifications(field: &mut Field, count: usize) -> Result<()> {
    const ONE_IN: u64 = 20;
    let to_redis = |field: &Field, one_in| {
        for link in field.stack.links.iter().filter(|link| matches!(link.ends, Ends::GatewayRedis(_))) {
            link.proxy.drop_published(one_in);
        }
    };
    to_redis(field, ONE_IN);
    for _ in 0..count {
        field.strike();
        sleep(BETWEEN_ROUNDS).await;
    }
    to_redis(field, 1);
    sleep(BETWEEN_ROUNDS * 4).await;
    let dropped: u64 = field.stack.links.iter().map(|link| link.proxy.dropped_messages()).sum();
    field.notes.push(format!("{dropped} notifications dropped"));
    field.demand(dropped > 0, || "no notification was dropped at all".to_owned());
    Ok(())
}

/// F14.
pub(super) async fn poison(field: &mut Field, count: usize) -> Result<()> {
    const PARTITIONS: usize = 16;
    let million = vec![b'x'; 1024 * 1024];
    let kinds: [&[u8]; 6] = [b"\0", b"\xed\xa0\x80", b"\r\nid: 1\r\n", b"", b"{\"seq\":1}", &million];
    for _ in 0..count {
        sleep(BETWEEN_ROUNDS).await;
        let partition = field.rng.random_range(0..PARTITIONS);
        let garbage = kinds[field.rng.random_range(0..kinds.len())];
        field.strike();
        let stream = field.stack.accept_stream(partition).await?;
        field.stack.redis.append_garbage(&stream, garbage).await?;
        field.poison += 1;
    }
    Ok(())
}
