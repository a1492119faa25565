//! What a reading thread does when it is told to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Clients;
use crate::clock::thread_micros;

impl Clients {
    /// Does what has been ordered since the last look, and tells how far it is.
    pub(super) fn look(&mut self) {
        let orders = Arc::clone(&self.reader.orders);
        self.sight.window = orders.window.load(Ordering::Relaxed);
        let is_away = orders.away.load(Ordering::Relaxed);
        if is_away && !self.is_away {
            self.cut();
        }
        self.is_away = is_away;
        if orders.stalling.load(Ordering::Relaxed) && !self.is_stalling {
            self.is_stalling = true;
            self.stall();
        }
        let judgement = orders.judgement.load(Ordering::Relaxed);
        if judgement > 0 {
            self.judge(judgement);
        }
        self.tell_lag();
        self.sight.reading.busy_us = thread_micros();
        self.reader.board.tell(&self.sight.reading);
    }

    /// Tells how many messages the slowest of the sampled streams is behind.
    fn tell_lag(&self) {
        let orders = &self.reader.orders;
        let sampled = self.sampled.iter().map(|at| &self.streams[*at]).filter(|stream| !stream.is_stalled);
        // A message may come before its post is acknowledged.
        let lags = sampled.map(|stream| orders.head(stream.room).saturating_sub(stream.order.reached()));
        orders.lags[self.reader.number].store(lags.max().unwrap_or(0), Ordering::Relaxed);
    }

    /// Cuts all streams; they wait until they may come back.
    fn cut(&mut self) {
        self.again.clear();
        self.later.clear();
        self.opening = 0;
        self.sight.reading.open = 0;
        self.waiting = (0..self.streams.len()).collect();
        for stream in &mut self.streams {
            stream.link = None;
        }
    }

    /// Those who are to stall are never read again.
    fn stall(&mut self) {
        for at in 0..self.streams.len() {
            if !self.reader.plan.stalls(self.number(at)) {
                continue;
            }
            let stream = &mut self.streams[at];
            stream.is_stalled = true;
            if let Some(link) = &mut stream.link {
                // It cannot fail for a socket that is registered; and an event more would be passed over.
                let _ = self.poll.registry().deregister(&mut link.socket);
            }
        }
    }

    /// Counts who has not caught up with what the rooms hold, and notes when the others had.
    fn judge(&mut self, judgement: usize) {
        let orders = &self.reader.orders;
        if judgement != self.judgement {
            self.judgement = judgement;
            self.streams.iter_mut().for_each(|stream| stream.has_caught_up = stream.is_stalled);
        }
        let since = self.reader.clock.micros().saturating_sub(orders.returned.load(Ordering::Relaxed));
        let mut behind = 0;
        for stream in self.streams.iter_mut().filter(|stream| !stream.has_caught_up) {
            if stream.order.reached() >= orders.head(stream.room)
                && stream.link.as_ref().is_some_and(|link| link.is_open)
            {
                stream.has_caught_up = true;
                self.catch_up.record(since);
            } else {
                behind += 1;
            }
        }
        self.sight.reading.behind = (judgement, behind);
    }
}
