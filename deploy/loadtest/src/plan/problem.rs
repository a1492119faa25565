//! Which plans cannot be run, and why.

use std::time::Duration;

use super::{Pages, Plan, Work};

impl Plan {
    /// Why the plan cannot be run, if it cannot.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let rate = match self.work {
            Work::Rate(per_s)
            | Work::History {
                pages: Pages::Newest(per_s),
                ..
            } => Some(per_s),
            _ => None,
        };
        let is_wrong = |per_s: f64| !(per_s > 0.0 && per_s <= 1e6);
        let is_rate_wrong = [rate, self.typing_per_s()].into_iter().flatten().any(is_wrong);
        let is_typing = self.typing_every.is_some();
        match () {
            () if self.rooms == 0 => Some("there must be at least one room"),
            () if self.threads == 0 => Some("there must be at least one reading thread"),
            () if self.stalled_percent > 99 => Some("not all streams can stall"),
            () if is_rate_wrong => Some("a rate lies between 0 and a million a second"),
            () if self.request_connections() == 0 && self.work != Work::Silence => {
                Some("there must be at least one connection")
            }
            () if self.stored_messages() == 0 && matches!(self.work, Work::History { .. }) => {
                Some("there must be a message to read")
            }
            () if self.user_rooms.is_some_and(|user_rooms| !user_rooms.is_possible(self.rooms)) => {
                Some("a user is in at least one room, and in no more than there are; a skew lies between 0 and 10")
            }
            () if self.user_rooms.is_some() && matches!(self.work, Work::History { .. }) => {
                Some("history is read without streams of all rooms of a user")
            }
            () if self.user_rooms.is_none() && matches!(self.work, Work::Sync { .. }) => {
                Some("users catch up with all their rooms: say how many")
            }
            () if is_typing && self.user_rooms.is_none() => Some("only streams of all rooms of a user show who types"),
            () if is_typing && !matches!(self.work, Work::Rate(_)) => {
                Some("users type while messages are posted at a rate")
            }
            () if is_typing && (self.stalled_percent > 0 || self.missed.is_some()) => {
                Some("users type while all streams are connected and read")
            }
            () if self.restarts && self.missed.is_none() => Some("gateways are restarted while streams miss messages"),
            () if self.text > 4_000 => Some("a message has at most 4,000 characters"),
            () if self.window > Duration::from_hours(1) => Some("a window lasts an hour at most"),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Preset;

    #[test]
    fn an_impossible_plan_is_refused() {
        let plan = Preset::Latency.plan();
        for plan in [
            Plan {
                rooms: 0,
                ..plan.clone()
            },
            Plan {
                threads: 0,
                ..plan.clone()
            },
            Plan {
                stalled_percent: 100,
                ..plan.clone()
            },
            Plan {
                work: Work::Rate(0.0),
                ..plan.clone()
            },
            Plan {
                work: Work::Rate(f64::NAN),
                ..plan.clone()
            },
            Plan {
                work: Work::Flood(0),
                ..plan.clone()
            },
            Plan {
                text: 4_001,
                ..plan.clone()
            },
            Plan {
                restarts: true,
                ..plan.clone()
            },
            Plan {
                user_rooms: None,
                ..Preset::Sync.plan()
            },
            Plan {
                rooms: 49,
                ..Preset::Users.plan()
            },
        ] {
            assert!(plan.problem().is_some(), "{plan:?}");
        }
    }

    #[test]
    fn typing_needs_users_posts_and_open_streams() {
        for plan in [
            Plan {
                user_rooms: None,
                ..Preset::Typing.plan()
            },
            Plan {
                work: Work::Silence,
                ..Preset::Typing.plan()
            },
            Plan {
                missed: Some(1),
                ..Preset::Typing.plan()
            },
            Plan {
                typing_every: Some(Duration::ZERO),
                ..Preset::Typing.plan()
            },
        ] {
            assert!(plan.problem().is_some(), "{plan:?}");
        }
    }
}
