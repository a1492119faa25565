//! Seeded random traffic by real clients, and the book in which they write down what they did and saw.
//!
//! ```text
//! Sender  ── posts one message after the other to one room, through any gateway, again until it knows
//! Phone   ── follows one room, is cut, sleeps, comes back at any gateway with its last id
//! Visitor ── looks in, reads history, leaves, and listens whether it really is out
//! Returner ─ leaves and comes back at once, at another gateway
//! Landlord ─ makes a room, deletes it and makes it again, and asks for it everywhere
//! ```
//!
//! Who says what, and when who moves, follows from the seed. What the network and the machine make of it does not.

mod book;
mod landlord;
mod phone;
mod returner;
mod sender;
mod visitor;
mod words;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::book::Book;
use self::landlord::Landlord;
use self::phone::{Heads, Phone};
use self::returner::Returner;
use self::sender::Sender;
use self::visitor::Visitor;
use crate::evidence::{Arrival, Evidence};
use crate::{App, Explain as _, Failure, Result, Stack};

/// Users who are registered at a time: hashing passwords is bounded, and refuses what would wait too long.
const REGISTERED_AT_ONCE: usize = 4;
/// How long senders may take for the messages they have in hand; each gives one up after a minute.
const FINISH_WITHIN: Duration = Duration::from_secs(90);

/// How much goes on.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What everything random follows from.
    pub seed: u64,
    /// Rooms.
    pub rooms: usize,
    /// Senders in each room, each of which posts one message after the other.
    pub senders_per_room: usize,
    /// Messages a second that all of them post together, as far as answers come in time.
    pub per_second: f64,
    /// Phones in each room that hold their stream for as long as they can.
    pub steady_per_room: usize,
    /// Phones in each room that move about.
    pub roaming_per_room: usize,
    /// Share of messages that are posted with an idempotency key, and repeated until their outcome is known.
    pub keyed: f64,
    /// Visitors.
    pub visitors: usize,
    /// People who leave and come back at once.
    pub returners: usize,
    /// People who delete rooms and make them again.
    pub landlords: usize,
}

impl Plan {
    /// The full load: 500 messages a second over 20 rooms.
    #[must_use]
    pub fn full(seed: u64) -> Self {
        Self {
            seed,
            rooms: 20,
            senders_per_room: 3,
            per_second: 550.0,
            steady_per_room: 1,
            roaming_per_room: 1,
            keyed: 0.8,
            visitors: 3,
            returners: 2,
            landlords: 2,
        }
    }
}

/// Running traffic.
pub struct Traffic {
    plan: Plan,
    book: Arc<Book>,
    reader: App,
    stop: CancellationToken,
    senders: JoinSet<()>,
    visitors: JoinSet<()>,
    phones: JoinSet<Arrival>,
    heads: watch::Sender<Heads>,
    settle_within: Duration,
}

impl Traffic {
    /// Registers everybody, creates the rooms and begins.
    ///
    /// Phones that have not seen everything `settle_within` after all is stored count as not having got it.
    pub async fn start(stack: &Stack, plan: Plan, settle_within: Duration) -> Result<Self> {
        let doors = stack.doors();
        let names = ["reader", "sender", "phone", "visitor"].map(str::to_owned).into_iter();
        let names = names
            .chain((0..plan.returners).map(returner))
            .chain((0..plan.landlords).map(|n| format!("landlord-{n}")));
        let mut users: Vec<App> = stream::iter(names)
            .map(async |name| stack.app()?.register(&name).await)
            .buffered(REGISTERED_AT_ONCE)
            .try_collect()
            .await?;
        let landlords = users.split_off(4 + plan.returners);
        let returners = users.split_off(4);
        let [reader, sender, phone, visitor] = users.try_into().map_err(|_| Failure::new("four users"))?;
        for room in 0..plan.rooms {
            reader.create_room(&room_name(room)).await?;
        }
        let mut traffic = Self {
            plan,
            book: Arc::new(Book::new()),
            reader,
            stop: CancellationToken::new(),
            senders: JoinSet::new(),
            visitors: JoinSet::new(),
            phones: JoinSet::new(),
            heads: watch::Sender::new(None),
            settle_within,
        };
        traffic.begin_listening(&at(&phone, &doors)?);
        for number in 0..plan.visitors {
            let doors = at(&visitor.login("visitor").await?, &doors)?;
            traffic.begin_visits(number, doors);
        }
        for (number, user) in returners.iter().enumerate() {
            traffic.begin_returning(number, at(user, &doors)?);
        }
        for (number, user) in landlords.iter().enumerate() {
            traffic.begin_letting(number, at(user, &doors)?);
        }
        for number in 0..plan.rooms * plan.senders_per_room {
            traffic.begin_posting(number, at(&sender, &doors)?);
        }
        Ok(traffic)
    }

    /// How many posts were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.book.acknowledged()
    }

    /// Time since the traffic began, by the clock of all evidence.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.book.now()
    }

    pub(crate) fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// Somebody who reads, and does nothing else.
    #[must_use]
    pub fn reader(&self) -> &App {
        &self.reader
    }

    /// The names of all rooms, by their numbers.
    #[must_use]
    pub fn rooms(&self) -> Vec<String> {
        (0..self.plan.rooms).map(room_name).collect()
    }

    /// Lets senders finish what they have in hand and visitors go home. Phones stay.
    pub async fn quiet(&mut self) -> Result<()> {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.senders.join_next().await {
                ended.explain(|| "a sender".to_owned())?;
            }
            while let Some(ended) = self.visitors.join_next().await {
                ended.explain(|| "a visitor".to_owned())?;
            }
            Ok(())
        };
        tokio::time::timeout(FINISH_WITHIN, all).await.explain(|| "clients do not finish".to_owned())?
    }

    /// Tells the phones where the rooms end, waits for them, and hands out what everybody wrote down.
    pub async fn finish(mut self, heads: Vec<i64>) -> Result<Evidence> {
        self.heads.send_replace(Some(Arc::new(heads)));
        let mut arrivals = Vec::new();
        while let Some(arrival) = self.phones.join_next().await {
            arrivals.push(arrival.explain(|| "a phone".to_owned())?);
        }
        let mut evidence =
            self.book.close().ok_or_else(|| Failure::new("more was posted than a run can write down"))?;
        evidence.arrivals = arrivals;
        Ok(evidence)
    }

    fn rng(&self, part: u64, number: usize) -> StdRng {
        // Each client has a stream of its own, so that one more of them changes nothing for the others.
        StdRng::seed_from_u64(self.plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (part << 32) ^ number as u64)
    }

    fn begin_posting(&mut self, number: usize, doors: Vec<App>) {
        let senders = self.plan.rooms * self.plan.senders_per_room;
        let sender = Sender {
            seed: self.plan.seed,
            number,
            room: number % self.plan.rooms,
            doors,
            pace: Duration::from_secs_f64(f64::from(u32::try_from(senders).unwrap_or(u32::MAX)) / self.plan.per_second),
            keyed: self.plan.keyed,
            rng: self.rng(1, number),
            book: Arc::clone(&self.book),
        };
        self.senders.spawn(sender.run(self.stop.clone()));
    }

    fn begin_listening(&mut self, doors: &[App]) {
        let per_room = self.plan.steady_per_room + self.plan.roaming_per_room;
        for number in 0..self.plan.rooms * per_room {
            let phone = Phone {
                number,
                room: number % self.plan.rooms,
                doors: doors.to_vec(),
                roams: number >= self.plan.rooms * self.plan.steady_per_room,
                rng: self.rng(2, number),
                book: Arc::clone(&self.book),
                heads: self.heads.subscribe(),
                last: None,
                epoch: None,
                deadline: None,
            };
            self.phones.spawn(phone.run(self.settle_within));
        }
    }

    fn begin_returning(&mut self, number: usize, doors: Vec<App>) {
        let user = Returner {
            number,
            name: returner(number),
            doors,
            rng: self.rng(4, number),
            book: Arc::clone(&self.book),
        };
        self.visitors.spawn(user.run(self.stop.clone()));
    }

    fn begin_letting(&mut self, number: usize, doors: Vec<App>) {
        let landlord = Landlord {
            number,
            doors,
            rng: self.rng(5, number),
            book: Arc::clone(&self.book),
        };
        self.visitors.spawn(landlord.run(self.stop.clone()));
    }

    fn begin_visits(&mut self, number: usize, doors: Vec<App>) {
        let visitor = Visitor {
            doors,
            rooms: self.plan.rooms,
            rng: self.rng(3, number),
            book: Arc::clone(&self.book),
        };
        self.visitors.spawn(visitor.run(self.stop.clone()));
    }
}

/// The name of returner `number`.
fn returner(number: usize) -> String {
    format!("returner-{number}")
}

/// The same user at every gateway.
fn at(user: &App, doors: &[String]) -> Result<Vec<App>> {
    doors.iter().map(|door| user.moved_to(door)).collect()
}

/// The name of room `number`.
fn room_name(number: usize) -> String {
    format!("room-{number}")
}
