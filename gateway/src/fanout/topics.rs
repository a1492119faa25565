//! Which clients follow which topic, and the passes over them.
//!
//! A client knows where it stands among the followers of each of its topics, so leaving a topic costs the same however many follow it. The
//! follower that takes its place there is told so by a search among what that one follows, which is short: the other way round costs four
//! bytes more for each topic of each client, and in half a million of these.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use slab::Slab;

use super::{Topic, TopicWaker};

/// Clients visited in one turn of a topic. Then another topic has its turn.
pub(super) const CLIENTS_PER_TURN: usize = 64;

/// The topics that clients of one thread follow. A client is a key of the thread.
#[derive(Default)]
pub(super) struct Topics {
    entries: Slab<Entry>,
    by_topic: HashMap<Topic, u32>,
    /// Indices of the topics with a pass under way, the next one first. One that was forgotten may still be among them.
    passing: VecDeque<u32>,
    /// What each client follows, by its key, in no order.
    followed: Vec<Vec<Followed>>,
}

struct Entry {
    topic: Topic,
    waker: Arc<TopicWaker>,
    /// Its clients, in no order.
    followers: Vec<u32>,
    pass: Pass,
}

/// A topic of a client.
#[derive(Clone, Copy)]
struct Followed {
    /// The index of the topic.
    topic: u32,
    /// Where the client is among those that follow the topic.
    position: u32,
}

/// The pass over the clients of a topic, from the last one down. A client that comes during the pass stands behind those
/// still to be visited, and one that leaves is replaced by a client that had its turn.
#[derive(Default)]
struct Pass {
    /// Clients that have not had their turn: so many, from the first.
    left: u32,
    /// A pass is under way.
    is_under_way: bool,
    /// The topic has moved since it began.
    again: bool,
}

/// Two of these take the place of two pointers in each topic of each client.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("a process has fewer descriptors than 2^32, and less memory than as many topics take")
}

impl Topics {
    /// Makes room for so many further topics of a client.
    pub(super) fn reserve(&mut self, client: usize, count: usize) {
        self.followed_by(client).reserve_exact(count);
    }

    /// Adds a client to a topic, and returns the waker of the topic; `None` if the client follows it already. `waker` makes one
    /// for an index.
    pub(super) fn join(
        &mut self,
        client: usize,
        topic: Topic,
        waker: impl FnOnce(usize) -> Arc<TopicWaker>,
    ) -> Option<Arc<TopicWaker>> {
        let index = *self.by_topic.entry(topic).or_insert_with(|| {
            let vacant = self.entries.vacant_entry();
            let index = vacant.key();
            vacant.insert(Entry {
                topic,
                waker: waker(index),
                followers: Vec::new(),
                pass: Pass::default(),
            });
            narrow(index)
        });
        let followed = self.followed_by(client);
        if followed.iter().any(|followed| followed.topic == index) {
            return None;
        }
        let entry = &mut self.entries[index as usize];
        let position = narrow(entry.followers.len());
        if entry.followers.len() == entry.followers.capacity() {
            // By less than the double: half a million of them are free otherwise.
            entry.followers.reserve_exact((entry.followers.len() / 4).max(1));
        }
        entry.followers.push(narrow(client));
        let waker = Arc::clone(&entry.waker);
        self.followed[client].push(Followed { topic: index, position });
        Some(waker)
    }

    /// Removes a client from a topic, if it follows it.
    pub(super) fn leave(&mut self, client: usize, topic: Topic) {
        let Some(index) = self.by_topic.get(&topic).copied() else {
            return;
        };
        let followed = self.followed_by(client);
        let Some(slot) = followed.iter().position(|followed| followed.topic == index) else {
            return;
        };
        let gone = followed.swap_remove(slot);
        self.remove_follower(gone);
    }

    /// Removes a client from all its topics.
    pub(super) fn leave_all(&mut self, client: usize) {
        for followed in mem::take(self.followed_by(client)) {
            self.remove_follower(followed);
        }
    }

    /// Removes a follower whose own side is removed already. A topic that nobody follows is forgotten together with its waker.
    fn remove_follower(&mut self, Followed { topic, position }: Followed) {
        let entry = &mut self.entries[topic as usize];
        entry.followers.swap_remove(position as usize);
        // The last one stands there now.
        if let Some(client) = entry.followers.get(position as usize).copied() {
            let mut followed = self.followed[client as usize].iter_mut();
            if let Some(followed) = followed.find(|followed| followed.topic == topic) {
                followed.position = position;
            }
        }
        let count = narrow(entry.followers.len());
        entry.pass.left = entry.pass.left.min(count);
        if count == 0 {
            let gone = self.entries.remove(topic as usize);
            self.by_topic.remove(&gone.topic);
        }
    }

    fn followed_by(&mut self, client: usize) -> &mut Vec<Followed> {
        if client >= self.followed.len() {
            self.followed.resize_with(client + 1, Vec::new);
        }
        &mut self.followed[client]
    }

    /// Starts a pass over the clients of a topic that has moved, or another one after the one under way.
    pub(super) fn start_pass(&mut self, index: usize) {
        // The index may belong to another topic by now, or to none: then that topic is visited for nothing.
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        // Before any source is asked: see the module `wake`.
        entry.waker.rearm();
        if entry.pass.is_under_way {
            entry.pass.again = true;
            return;
        }
        entry.pass = Pass {
            left: narrow(entry.followers.len()),
            is_under_way: true,
            again: false,
        };
        self.passing.push_back(narrow(index));
    }

    /// Whether a client waits for its turn.
    pub(super) fn has_passes(&self) -> bool {
        !self.passing.is_empty()
    }

    /// Puts the clients whose turn is next into `clients`, and returns the topic that has moved; `None` if there are none.
    pub(super) fn next_clients(&mut self, clients: &mut Vec<usize>) -> Option<Topic> {
        clients.clear();
        while let Some(index) = self.passing.pop_front() {
            // It may have been forgotten, and its index belong to a topic that does not move.
            let Some(entry) = self.entries.get_mut(index as usize) else {
                continue;
            };
            let pass = &mut entry.pass;
            if !pass.is_under_way {
                continue;
            }
            let upto = pass.left as usize;
            let from = upto.saturating_sub(CLIENTS_PER_TURN);
            clients.extend(entry.followers[from..upto].iter().rev().map(|client| *client as usize));
            pass.left = narrow(from);
            if pass.left == 0 && pass.again {
                pass.left = narrow(entry.followers.len());
                pass.again = false;
            }
            if pass.left == 0 {
                pass.is_under_way = false;
            } else {
                self.passing.push_back(index);
            }
            return Some(entry.topic);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::fanout::topic_wakers::Sleeper;
    use crate::fanout::wake::WakeSignal;

    fn waker(index: usize) -> Arc<TopicWaker> {
        let signal = Arc::new(WakeSignal::new(Sleeper::Task(Arc::default())));
        Arc::new(TopicWaker::new(signal.topic(index)))
    }

    /// Everybody who is visited when a topic moves.
    fn visited(topics: &mut Topics, topic: Topic) -> BTreeSet<usize> {
        let Some(index) = topics.by_topic.get(&topic).copied() else {
            return BTreeSet::new();
        };
        topics.start_pass(index as usize);
        let (mut turn, mut all) = (Vec::new(), BTreeSet::new());
        while let Some(moved) = topics.next_clients(&mut turn) {
            assert_eq!(moved, topic);
            all.extend(turn.iter().copied());
        }
        all
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(usize, Topic),
        Leave(usize, Topic),
        LeaveAll(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..12_usize, 0..6_i64).prop_map(|(client, topic)| Step::Join(client, topic)),
            2 => (0..12_usize, 0..6_i64).prop_map(|(client, topic)| Step::Leave(client, topic)),
            1 => (0..12_usize).prop_map(Step::LeaveAll),
        ]
    }

    proptest! {
        #[test]
        fn those_who_follow_a_topic_are_visited(steps in prop::collection::vec(step(), 1..200)) {
            let (mut topics, mut expected) = (Topics::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Join(client, topic) => {
                        prop_assert_eq!(topics.join(client, topic, waker).is_some(), expected.insert((topic, client)));
                    }
                    Step::Leave(client, topic) => {
                        topics.leave(client, topic);
                        expected.remove(&(topic, client));
                    }
                    Step::LeaveAll(client) => {
                        topics.leave_all(client);
                        expected.retain(|(_, follower)| *follower != client);
                    }
                }
                for topic in 0..6 {
                    let followers: BTreeSet<usize> =
                        expected.iter().filter(|(followed, _)| *followed == topic).map(|(_, client)| *client).collect();
                    prop_assert_eq!(visited(&mut topics, topic), followers);
                }
            }
            prop_assert_eq!(topics.entries.len(), topics.by_topic.len());
        }
    }

    #[test]
    fn a_client_that_leaves_during_a_pass_costs_nobody_their_turn() {
        let mut topics = Topics::default();
        (0..200).for_each(|client| drop(topics.join(client, 1, waker)));
        topics.start_pass(0);
        let (mut turn, mut visited) = (Vec::new(), BTreeSet::new());
        topics.next_clients(&mut turn);
        visited.extend(turn.iter().copied());
        for client in [0, 50, 199] {
            topics.leave_all(client);
        }
        while topics.next_clients(&mut turn).is_some() {
            visited.extend(turn.iter().copied());
        }
        assert!((1..199).filter(|client| *client != 50).all(|client| visited.contains(&client)));
    }

    #[test]
    fn a_topic_forgotten_during_its_pass_does_not_stop_others() {
        let mut topics = Topics::default();
        topics.join(0, 1, waker);
        topics.join(1, 2, waker);
        topics.start_pass(0);
        topics.start_pass(1);
        topics.leave_all(0);
        // It gets the index of the forgotten one, and has not moved.
        topics.join(2, 3, waker);
        let mut turn = Vec::new();
        assert_eq!(topics.next_clients(&mut turn), Some(2));
        assert_eq!(turn, [1]);
        assert_eq!(topics.next_clients(&mut turn), None);
        assert!(!topics.has_passes());
    }

    /// With a search among the followers this takes minutes.
    #[test]
    fn many_followers_of_hot_topics_leave_in_no_time() {
        const CLIENTS: usize = 100_000;
        let mut topics = Topics::default();
        for client in 0..CLIENTS {
            for topic in 0..10 {
                topics.join(client, topic, waker);
            }
        }
        let began = Instant::now();
        (0..CLIENTS).for_each(|client| topics.leave_all(client));
        assert!(topics.entries.is_empty());
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }
}
