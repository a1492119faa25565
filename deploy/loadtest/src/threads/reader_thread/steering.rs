//! How a reader thread follows the control of the run.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ReaderLoop;
use crate::threads::clock::thread_cpu_us;

impl ReaderLoop {
    /// Does what the control of the run asks for, and publishes the counters.
    pub(super) fn steer(&mut self) {
        let control = Arc::clone(&self.thread.control);
        self.observations.window = control.window.load(Ordering::Relaxed);
        let is_disconnected = control.disconnect.load(Ordering::Relaxed);
        if is_disconnected && !self.is_disconnected {
            self.disconnect_all();
        }
        self.is_disconnected = is_disconnected;
        if control.stalling.load(Ordering::Relaxed) && !self.is_stalling {
            self.is_stalling = true;
            self.stop_reading_stalled();
        }
        let catch_up_check = control.catch_up_check.load(Ordering::Relaxed);
        if catch_up_check > 0 {
            self.check_catch_up(catch_up_check);
        }
        self.publish_lag();
        self.observations.counters.busy_us = thread_cpu_us();
        self.thread.published.publish(&self.observations.counters);
    }

    /// Publishes how many messages the slowest sampled stream is behind.
    fn publish_lag(&self) {
        let control = &self.thread.control;
        let sampled = self.sampled.iter().map(|at| &self.streams[*at]).filter(|stream| !stream.is_stalled);
        let lags = sampled.map(|stream| stream.followed.behind(control));
        control.lags[self.thread.number].store(lags.max().unwrap_or(0), Ordering::Relaxed);
    }

    /// Disconnects all streams; they wait until they may reconnect.
    fn disconnect_all(&mut self) {
        self.unfinished_reads.clear();
        self.reopening.clear();
        self.opening = 0;
        self.observations.counters.open = 0;
        self.waiting = (0..self.streams.len()).collect();
        for stream in &mut self.streams {
            stream.connection = None;
        }
    }

    /// Stops reading the streams chosen to stall, for good.
    fn stop_reading_stalled(&mut self) {
        for at in 0..self.streams.len() {
            if !self.thread.plan.is_stalled(self.number(at)) {
                continue;
            }
            let stream = &mut self.streams[at];
            stream.is_stalled = true;
            if let Some(connection) = &mut stream.connection {
                // Deregistering a registered socket does not fail; and a further event of a stalled stream would be
                // ignored.
                let _ = self.poll.registry().deregister(&mut connection.socket);
            }
        }
    }

    /// Counts the streams that lack messages of their rooms, and records the time at which the others had caught up.
    fn check_catch_up(&mut self, catch_up_check: usize) {
        let control = &self.thread.control;
        if catch_up_check != self.catch_up_check {
            self.catch_up_check = catch_up_check;
            self.streams.iter_mut().for_each(|stream| stream.has_caught_up = stream.is_stalled);
        }
        let since = self.thread.clock.micros().saturating_sub(control.reconnect_at_us.load(Ordering::Relaxed));
        let mut behind = 0;
        for stream in self.streams.iter_mut().filter(|stream| !stream.has_caught_up) {
            let is_open = stream.connection.as_ref().is_some_and(|connection| connection.is_open);
            if is_open && !stream.followed.is_behind(control) {
                stream.has_caught_up = true;
                self.catch_up.record(since);
            } else {
                behind += 1;
            }
        }
        self.observations.counters.behind = (catch_up_check, behind);
    }
}
