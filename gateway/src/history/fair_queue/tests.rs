use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::state::{MAX_RUNNING, MAX_RUNNING_PER_READER, MAX_WAITING};
use super::*;

type Waiting<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Permit<u8>, ReadRefused>> + 'a>>;

/// A read of `reader` that waits.
fn wait(queue: &FairQueue<u8>, reader: u8) -> Waiting<'_> {
    let mut waiting: Waiting<'_> = Box::pin(queue.acquire(reader));
    assert!((&mut waiting).now_or_never().is_none(), "the read does not wait");
    waiting
}

#[tokio::test]
async fn a_reader_with_many_reads_delays_nobody() {
    let queue = FairQueue::<u8>::default();
    let mut running = Vec::new();
    for _ in 0..MAX_RUNNING_PER_READER {
        running.push(queue.acquire(1).await.unwrap());
    }
    let mut greedy: Vec<_> = (0..50).map(|_| wait(&queue, 1)).collect();
    // One connection is left for another reader, and the next free one is granted to the readers in turn.
    let second = queue.acquire(2).now_or_never().unwrap().unwrap();
    let (mut third, mut fourth) = (wait(&queue, 3), wait(&queue, 4));
    drop(second);
    let third = (&mut third).now_or_never().unwrap().unwrap();
    running.pop();
    let mut more: Vec<_> = greedy.iter_mut().filter_map(futures_util::FutureExt::now_or_never).collect();
    let fourth = (&mut fourth).now_or_never();
    assert_eq!(more.len() + usize::from(fourth.is_some()), 1, "one connection was free");
    drop((third, fourth));
    more.extend(greedy.iter_mut().filter_map(futures_util::FutureExt::now_or_never));
    assert!(!more.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_released_read_that_still_counts_frees_its_connection() {
    let queue = FairQueue::<u8>::default();
    let time = Duration::from_millis(50);
    let began = Instant::now();
    let mut running = Vec::new();
    for _ in 0..MAX_RUNNING_PER_READER {
        running.push(queue.acquire(1).await.unwrap());
    }
    for permit in running {
        permit.release_after(Some(time));
    }
    queue.acquire(2).await.unwrap().release_after(None);
    let own = wait(&queue, 1);
    for _ in 0..2 {
        let others: Vec<_> =
            (2..).take(MAX_RUNNING).filter_map(|reader| queue.acquire(reader).now_or_never()).collect();
        assert_eq!(others.len(), MAX_RUNNING, "each has a connection");
    }
    drop(own.await.unwrap());
    assert_eq!(began.elapsed(), time);
    while !queue.0.lock().readers.is_empty() {
        tokio::task::yield_now().await;
    }
    let state = queue.0.lock();
    assert_eq!((state.running, state.waiting, state.order.len()), (0, 0, 0));
}

#[tokio::test]
async fn a_full_queue_takes_one_read_of_each_reader() {
    let queue = FairQueue::<u8>::default();
    let running: Vec<_> = (200..).map_while(|reader| queue.acquire(reader).now_or_never()).collect();
    let full = u8::try_from(MAX_WAITING / MAX_WAITING_PER_READER).unwrap();
    let greedy = (0..full).flat_map(|reader| std::iter::repeat_n(reader, MAX_WAITING_PER_READER));
    let greedy: Vec<_> = greedy.map(|reader| wait(&queue, reader)).collect();
    let first = wait(&queue, 100);
    assert_eq!(queue.acquire(100).now_or_never().unwrap().err(), Some(ReadRefused::Overload));
    drop((running, greedy, first));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_too_long_is_refused() {
    let queue = FairQueue::<u8>::default();
    for _ in 0..MAX_RUNNING_PER_READER {
        queue.acquire(1).await.unwrap().release_after(Some(MAX_WAIT * 2));
    }
    let mut others = Vec::new();
    for reader in 2.. {
        match queue.acquire(reader).now_or_never() {
            Some(permit) => others.push(permit.unwrap()),
            None => break,
        }
    }
    let (own, of_all) = tokio::join!(queue.acquire(1), queue.acquire(2));
    assert_eq!((own.err(), of_all.err()), (Some(ReadRefused::ReaderLimit), Some(ReadRefused::Overload)));
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_is_dropped() {
    let queue = FairQueue::<u8>::default();
    let mut running = Vec::new();
    for reader in 0..u8::try_from(MAX_RUNNING).unwrap() {
        running.push(queue.acquire(reader).await.unwrap());
    }
    let abandoned: Vec<_> = (0..MAX_WAITING_PER_READER).map(|_| wait(&queue, 9)).collect();
    assert_eq!(queue.acquire(9).now_or_never().unwrap().err(), Some(ReadRefused::ReaderLimit));
    drop(abandoned);
    let mut waiting = wait(&queue, 9);
    running.pop();
    assert!((&mut waiting).now_or_never().unwrap().is_ok());
    drop((waiting, running));
    let state = queue.0.lock();
    assert_eq!((state.running, state.waiting, state.readers.len(), state.order.len()), (0, 0, 0, 0));
}
