//! What connections that post or ask for history say.

use super::plan::{Plan, Work};
use super::site::{Request, Site};

/// Pages that each connection asks for in turn when they may lie anywhere: together more than a gateway keeps, so that they come
/// from SQL.
const PAGES: u64 = 1_024;
/// About how many connections fill rooms.
const FILLERS: usize = 64;

/// What one connection asks, in turn.
pub(super) struct Script {
    /// Number of the connection among those of the same room.
    pub(super) lane: u64,
    pub(super) requests: Vec<Request>,
}

/// What each posting connection says: those that are fewer than the rooms take several rooms in turn, those that are more
/// share them. In each room its users take turns.
pub(super) fn posts(plan: &Plan, site: &Site) -> Vec<Script> {
    let callers = plan.callers();
    let script = |number: usize| {
        let door = site.door(number);
        let lane = number / plan.rooms;
        let rooms: Vec<usize> = (number % plan.rooms..plan.rooms).step_by(callers.min(plan.rooms)).collect();
        let turns = rooms.iter().map(|room| site.users_of_room(*room).len()).max().unwrap_or(0);
        let post = |turn: usize, room: usize| {
            let mut users = site.users_of_room(room).cycle().skip(lane + turn);
            site.publish(door, room, users.next().unwrap_or(0), plan.text)
        };
        let requests = (0..turns).flat_map(|turn| rooms.iter().map(move |room| (turn, *room)));
        Script {
            lane: lane as u64,
            requests: requests.map(|(turn, room)| post(turn, room)).collect(),
        }
    };
    (0..callers).map(script).collect()
}

/// What fills every room with `messages`, and how many of them each connection posts: each room has equally many
/// connections. A few more may come of it.
pub(super) fn filling(plan: &Plan, site: &Site, messages: u64) -> (Vec<Script>, u64) {
    let each_room = (FILLERS / plan.rooms).max(1);
    let plan = Plan {
        work: Work::Flood(plan.rooms * each_room),
        ..plan.clone()
    };
    (posts(&plan, site), messages.div_ceil(each_room as u64))
}

/// What each connection asks that reads history: the newest pages of all rooms, or pages of one room that are scattered
/// over its `messages`.
pub(super) fn pages(plan: &Plan, site: &Site) -> Vec<Script> {
    let Work::History { messages, anywhere, .. } = plan.work else {
        return Vec::new();
    };
    let script = |number: usize| {
        let door = site.door(number);
        let requests = if anywhere {
            // Multiplicative hashing (Knuth); another set for each connection.
            let pages = (0..PAGES).map(|page| (page * 2_654_435_761 + number as u64 * 40_503) % messages.max(1) + 1);
            let room = number % plan.rooms;
            pages.map(|before| site.history(door, room, site.users_of_room(room).start, Some(before))).collect()
        } else {
            let rooms = (0..plan.rooms).map(|room| (room + number) % plan.rooms);
            rooms.map(|room| site.history(door, room, site.users_of_room(room).start, None)).collect()
        };
        Script { lane: 0, requests }
    };
    (0..plan.callers()).map(script).collect()
}
