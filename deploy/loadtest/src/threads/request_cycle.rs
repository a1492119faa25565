//! Which requests each connection sends, in turn and over again.

use crate::plan::{Pages, Plan, Work, interval_us};
use crate::target::Target;
use crate::target::request::Request;

/// Connections that post the messages of rooms before a load, about.
const FILLING_CONNECTIONS: usize = 64;
/// Most of them; where there are more rooms, each has several.
const MOST_FILLING_CONNECTIONS: usize = 256;
/// Messages of a page of history.
const MESSAGES_PER_PAGE: u64 = 100;

/// The requests of one connection.
pub(crate) struct RequestCycle {
    /// Number of the connection among those that post to the same room.
    pub(crate) connection: u64,
    pub(crate) requests: Vec<Request>,
    /// Time between two requests, in microseconds; `None` to send the next one as soon as the last one is answered.
    pub(crate) every_us: Option<u64>,
    /// The requests accompany the load, and their responses are not counted.
    pub(crate) is_uncounted: bool,
    /// Requests that succeed before the connection stops; `None` for no bound.
    pub(crate) limit: Option<u64>,
}

/// The cycles of all connections for the work of the plan.
pub(crate) fn of_work(plan: &Plan, target: &Target) -> Vec<RequestCycle> {
    match plan.work {
        Work::Silence | Work::Sync { .. } => Vec::new(),
        Work::Flood(_) | Work::Rate(_) => posts(plan, target),
        Work::History { pages: Pages::Any, .. } => any_pages(plan, target),
        Work::History {
            pages: Pages::Newest(per_s),
            ..
        } => {
            let accompanying = posts(&plan.with(Work::Rate(per_s)), target);
            let accompanying = accompanying.into_iter().map(|cycle| RequestCycle {
                is_uncounted: true,
                ..cycle
            });
            newest_pages(plan, target).into_iter().chain(accompanying).collect()
        }
    }
}

/// The cycles of posting connections. Fewer connections than rooms take several rooms each, in turn; more connections
/// than rooms share the rooms. In each room its users post in turn.
fn posts(plan: &Plan, target: &Target) -> Vec<RequestCycle> {
    let connections = plan.request_connections();
    let every_us = match plan.work {
        Work::Rate(per_s) => Some(interval_us(connections, per_s)),
        _ => None,
    };
    let cycle = |number: usize| {
        let address = target.address(number);
        let connection = number / plan.rooms;
        let rooms: Vec<usize> = rooms_of_connection(plan, number).collect();
        let most_users = rooms.iter().map(|room| target.users_of_room(*room).len()).max().unwrap_or(0);
        let post = |user_turn: usize, room: usize| {
            let mut users = target.users_of_room(room).cycle().skip(connection + user_turn);
            target.publish(address, (room, users.next().unwrap_or(0)), plan.text, plan.keys)
        };
        let requests = (0..most_users).flat_map(|user_turn| rooms.iter().map(move |room| (user_turn, *room)));
        RequestCycle {
            connection: connection as u64,
            requests: requests.map(|(user_turn, room)| post(user_turn, room)).collect(),
            every_us,
            is_uncounted: false,
            limit: None,
        }
    };
    (0..connections).map(cycle).collect()
}

/// The cycles that post `messages` to every room, which end by themselves. Each room has equally many connections, so that a few more
/// messages may be posted; of many rooms, each connection has several.
pub(crate) fn posts_of(plan: &Plan, target: &Target, messages: u64) -> Vec<RequestCycle> {
    let each_room = (FILLING_CONNECTIONS / plan.rooms).max(1);
    let connections = if plan.rooms > MOST_FILLING_CONNECTIONS {
        MOST_FILLING_CONNECTIONS
    } else {
        plan.rooms * each_room
    };
    let plan = plan.with(Work::Flood(connections));
    let with_limit = |(number, cycle): (usize, RequestCycle)| {
        let rooms = rooms_of_connection(&plan, number).count() as u64;
        RequestCycle {
            limit: Some(rooms * messages.div_ceil(each_room as u64)),
            ..cycle
        }
    };
    posts(&plan, target).into_iter().enumerate().map(with_limit).collect()
}

/// The rooms that connection `number` posts to.
fn rooms_of_connection(plan: &Plan, number: usize) -> impl Iterator<Item = usize> + use<> {
    let rooms = plan.rooms;
    (number % rooms..rooms).step_by(plan.request_connections().min(rooms))
}

/// The cycles of typing calls: each user with a stream calls for the first of their rooms.
pub(crate) fn of_typing(plan: &Plan, target: &Target) -> Vec<RequestCycle> {
    let connections = plan.typing_connections();
    let every_us = plan.typing_per_s().map(|per_s| interval_us(connections, per_s));
    let request = |number: usize, user: usize| {
        let room = target.rooms_of_user(user)?.first()?;
        Some(target.typing_call(target.address(number), *room, user))
    };
    let cycle = |number: usize| RequestCycle {
        connection: number as u64,
        requests: (number..plan.streams).step_by(connections).filter_map(|user| request(number, user)).collect(),
        every_us,
        is_uncounted: false,
        limit: None,
    };
    (0..connections).map(cycle).collect()
}

/// The cycles that request the newest pages of all rooms.
fn newest_pages(plan: &Plan, target: &Target) -> Vec<RequestCycle> {
    let least_body = least_page_length(plan);
    let request = |number: usize, room: usize| {
        target.newest_page(target.address(number), room, target.users_of_room(room).start, least_body)
    };
    let cycle = |number: usize| RequestCycle {
        connection: 0,
        requests: (0..plan.rooms).map(|room| request(number, (room + number) % plan.rooms)).collect(),
        every_us: None,
        is_uncounted: false,
        limit: None,
    };
    (0..plan.request_connections()).map(cycle).collect()
}

/// The cycles that request pages scattered over a room. No page is requested twice before all were requested once, so
/// that none is in a cache.
fn any_pages(plan: &Plan, target: &Target) -> Vec<RequestCycle> {
    let least_body = least_page_length(plan);
    let first = MESSAGES_PER_PAGE.min(plan.stored_messages()) + 1;
    let befores = first..=plan.stored_messages() + 1;
    let cycle = |number: usize| {
        let room = number % plan.rooms;
        let user = target.users_of_room(room).start;
        let others = target.other_entries(room);
        RequestCycle {
            connection: number as u64,
            requests: vec![target.any_page(
                target.address(number),
                (room, user),
                least_body,
                befores.start() + others..=befores.end() + others,
                plan.request_connections(),
            )],
            every_us: None,
            is_uncounted: false,
            limit: None,
        }
    };
    (0..plan.request_connections()).map(cycle).collect()
}

/// Least length of a page in bytes: that of its texts.
fn least_page_length(plan: &Plan) -> usize {
    let messages = usize::try_from(MESSAGES_PER_PAGE.min(plan.stored_messages())).unwrap_or(0);
    messages * plan.text
}
