//! What connections that post or ask for history say.

use crate::plan::{Pages, Plan, Work, interval_us};
use crate::site::{Request, Site};

/// About how many connections fill rooms.
const FILLERS: usize = 64;
/// Messages of a page of history.
const PAGE: u64 = 100;

/// What one connection asks, in turn.
pub(crate) struct Script {
    /// Number of the connection among those of the same room.
    pub(crate) lane: u64,
    pub(crate) requests: Vec<Request>,
    /// Time between two of them, in microseconds; `None` for as fast as they are answered.
    pub(crate) every_us: Option<u64>,
    /// It goes on beside the load: what is answered is not counted.
    pub(crate) is_aside: bool,
}

/// What each connection does of the plan's work.
pub(crate) fn work(plan: &Plan, site: &Site) -> Vec<Script> {
    match plan.work {
        Work::Silence => Vec::new(),
        Work::Flood(_) | Work::Rate(_) => posts(plan, site),
        Work::History { pages: Pages::Any, .. } => any_pages(plan, site),
        Work::History {
            pages: Pages::Newest(per_s),
            ..
        } => {
            let beside = posts(&plan.with(Work::Rate(per_s)), site);
            let beside = beside.into_iter().map(|script| Script {
                is_aside: true,
                ..script
            });
            newest_pages(plan, site).into_iter().chain(beside).collect()
        }
    }
}

/// What each posting connection says: those that are fewer than the rooms take several rooms in turn, those that are more
/// share them. In each room its users take turns.
fn posts(plan: &Plan, site: &Site) -> Vec<Script> {
    let callers = plan.callers();
    let every_us = match plan.work {
        Work::Rate(per_s) => Some(interval_us(callers, per_s)),
        _ => None,
    };
    let script = |number: usize| {
        let door = site.door(number);
        let lane = number / plan.rooms;
        let rooms: Vec<usize> = (number % plan.rooms..plan.rooms).step_by(callers.min(plan.rooms)).collect();
        let turns = rooms.iter().map(|room| site.users_of_room(*room).len()).max().unwrap_or(0);
        let post = |turn: usize, room: usize| {
            let mut users = site.users_of_room(room).cycle().skip(lane + turn);
            site.publish(door, (room, users.next().unwrap_or(0)), plan.text, plan.keys)
        };
        let requests = (0..turns).flat_map(|turn| rooms.iter().map(move |room| (turn, *room)));
        Script {
            lane: lane as u64,
            requests: requests.map(|(turn, room)| post(turn, room)).collect(),
            every_us,
            is_aside: false,
        }
    };
    (0..callers).map(script).collect()
}

/// What fills every room with `messages`, and how many of them each connection posts: each room has equally many
/// connections. A few more may come of it.
pub(crate) fn filling(plan: &Plan, site: &Site, messages: u64) -> (Vec<Script>, u64) {
    let each_room = (FILLERS / plan.rooms).max(1);
    let plan = plan.with(Work::Flood(plan.rooms * each_room));
    (posts(&plan, site), messages.div_ceil(each_room as u64))
}

/// The newest pages of all rooms.
fn newest_pages(plan: &Plan, site: &Site) -> Vec<Script> {
    let least = least_page(plan);
    let request =
        |number: usize, room: usize| site.newest_page(site.door(number), room, site.users_of_room(room).start, least);
    let script = |number: usize| Script {
        lane: 0,
        requests: (0..plan.rooms).map(|room| request(number, (room + number) % plan.rooms)).collect(),
        every_us: None,
        is_aside: false,
    };
    (0..plan.callers()).map(script).collect()
}

/// Pages that are scattered over a room: no two requests ask for the same one until all were asked for, so that no cache has
/// them.
fn any_pages(plan: &Plan, site: &Site) -> Vec<Script> {
    let least = least_page(plan);
    let first = PAGE.min(plan.filling()) + 1;
    let befores = first..=plan.filling() + 1;
    let script = |number: usize| {
        let room = number % plan.rooms;
        let user = site.users_of_room(room).start;
        Script {
            lane: number as u64,
            requests: vec![site.any_page(site.door(number), (room, user), least, befores.clone(), plan.callers())],
            every_us: None,
            is_aside: false,
        }
    };
    (0..plan.callers()).map(script).collect()
}

/// Bytes that a page has at least: those of its texts.
fn least_page(plan: &Plan) -> usize {
    let messages = usize::try_from(PAGE.min(plan.filling())).unwrap_or(0);
    messages * plan.text
}
