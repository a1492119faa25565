//! Access policy: which role may do what, as one table.
//!
//! Everybody holds the role of an outsider, and further roles by what they are to the room or the user record in question. A
//! user may do what any of their roles may do. A role grants nothing beyond its row of the table: an admin does not see a
//! private room that they are not in, but may delete it by its name.
//!
//! In a direct room both members are the same: whoever created it owns nothing there, and no admin ends it.
//!
//! A user who may not see the room gets the answer for a room that does not exist; one who may see it gets `forbidden`.

use shared::domain::{RoomKind, UserId};
use shared::storage::{Room, User};
use shared::telemetry::LogEvent;

static FORBIDDEN: LogEvent = LogEvent::refusal("forbidden", "a forbidden action was attempted");

/// What somebody is to a room or a user record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Anybody with a valid token.
    Outsider,
    /// They are in the room.
    Member,
    /// They created the room, or the record is their own.
    Owner,
    /// They administer the installation.
    Admin,
}

/// What somebody may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Learn that the room exists, and who is in it.
    See,
    /// Become a member.
    Join,
    /// Post a message, which joins the room.
    Post,
    /// Read history.
    Read,
    /// Open a stream, which joins the room.
    Follow,
    /// Delete messages of others.
    DeleteMessages,
    /// Stop being a member, or hide a direct room.
    Leave,
    /// Set one's own read mark and notifications.
    SetOwnState,
    /// Delete the room.
    DeleteRoom,
    /// Create a room whose name is reserved for the owner of a deleted one.
    TakeReservedName,
    /// List all users of the installation.
    ListUsers,
    /// Learn the e-mail address of a user.
    SeeEmail,
}

/// What a role grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    /// Nothing.
    No,
    /// The action in public rooms.
    Public,
    /// The action in public and private rooms, but not in direct ones.
    NotDirect,
    /// The action everywhere.
    Yes,
}

use Grant::{No, NotDirect, Public, Yes};

/// What the policy depends on of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Everybody sees it, and may join. An action that concerns no room is as if it were in one of these.
    Open,
    /// Only its members see it.
    Private,
    /// Two users see it.
    Direct,
}

impl Access {
    fn of(room: &Room) -> Self {
        match (room.kind, room.is_private) {
            (RoomKind::Direct, _) => Self::Direct,
            (RoomKind::Room, true) => Self::Private,
            (RoomKind::Room, false) => Self::Open,
        }
    }
}

/// The policy: a row for each action, a column for each role.
#[rustfmt::skip]
const POLICY: [(Action, [Grant; 4]); 12] = [
    //                          Outsider  Member  Owner      Admin
    (Action::See,              [Public,   Yes,    No,        No       ]),
    (Action::Join,             [Public,   Yes,    No,        No       ]),
    (Action::Post,             [Public,   Yes,    No,        No       ]),
    (Action::Read,             [Public,   Yes,    No,        No       ]),
    (Action::Follow,           [Public,   Yes,    No,        No       ]),
    (Action::DeleteMessages,   [No,       No,     NotDirect, NotDirect]),
    (Action::Leave,            [Public,   Yes,    No,        No       ]),
    (Action::SetOwnState,      [No,       Yes,    No,        No       ]),
    (Action::DeleteRoom,       [No,       No,     NotDirect, NotDirect]),
    (Action::TakeReservedName, [No,       No,     Yes,       Yes      ]),
    (Action::ListUsers,        [No,       No,     No,        Yes      ]),
    (Action::SeeEmail,         [No,       No,     Yes,       Yes      ]),
];

impl Role {
    /// Whether this role may do `action` in a room of this access.
    const fn may(self, action: Action, access: Access) -> bool {
        match POLICY[action as usize].1[self as usize] {
            No => false,
            Public => matches!(access, Access::Open),
            NotDirect => !matches!(access, Access::Direct),
            Yes => true,
        }
    }
}

/// Whether a member of `room` may do `action` there.
#[must_use]
pub fn member_may(action: Action, room: &Room) -> bool {
    Role::Member.may(action, Access::of(room))
}

/// Whether `user` may do `action` in `room` without being a member of it.
#[must_use]
pub fn non_member_may(user: &User, action: Action, room: &Room) -> bool {
    may(user, action, room.owner_id, Access::of(room))
}

/// Whether `user` may do `action` that concerns no room.
#[must_use]
pub fn may_anywhere(user: &User, action: Action) -> bool {
    Role::Outsider.may(action, Access::Open) || (user.is_admin && Role::Admin.may(action, Access::Open))
}

/// Whether `user` may do `action` with the record of the user `subject`.
#[must_use]
pub fn may_with_record(user: &User, action: Action, subject: UserId) -> bool {
    may(user, action, subject, Access::Open)
}

fn may(user: &User, action: Action, owner: UserId, access: Access) -> bool {
    Role::Outsider.may(action, access)
        || (user.id == owner && Role::Owner.may(action, access))
        || (user.is_admin && Role::Admin.may(action, access))
}

/// Writes to the log that `user` was forbidden to do `what`.
pub fn report_forbidden(user: UserId, what: &str) {
    FORBIDDEN.report(format_args!("user:{}", user.0), what);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 4] = [Role::Outsider, Role::Member, Role::Owner, Role::Admin];

    /// What each role may do in a public, a private and a direct room, in words.
    const EXPECTED: [(Role, &str, &str, &str); 4] = [
        (Role::Outsider, "See Join Post Read Follow Leave", "", ""),
        (
            Role::Member,
            "See Join Post Read Follow Leave SetOwnState",
            "See Join Post Read Follow Leave SetOwnState",
            "See Join Post Read Follow Leave SetOwnState",
        ),
        (
            Role::Owner,
            "DeleteMessages DeleteRoom TakeReservedName SeeEmail",
            "DeleteMessages DeleteRoom TakeReservedName SeeEmail",
            "TakeReservedName SeeEmail",
        ),
        (
            Role::Admin,
            "DeleteMessages DeleteRoom TakeReservedName ListUsers SeeEmail",
            "DeleteMessages DeleteRoom TakeReservedName ListUsers SeeEmail",
            "TakeReservedName ListUsers SeeEmail",
        ),
    ];

    #[test]
    fn each_role_may_do_exactly_what_is_listed() {
        let allowed = |role: Role, access| {
            let actions = POLICY.iter().map(|(action, _)| *action).filter(|action| role.may(*action, access));
            actions.map(|action| format!("{action:?}")).collect::<Vec<_>>().join(" ")
        };
        for (role, in_public, in_private, in_direct) in EXPECTED {
            for (access, expected) in [
                (Access::Open, in_public),
                (Access::Private, in_private),
                (Access::Direct, in_direct),
            ] {
                assert_eq!(allowed(role, access), expected, "{role:?} where it is {access:?}");
            }
        }
    }

    #[test]
    fn direct_rooms_are_neither_private_nor_public() {
        let mut room = Room::for_tests(shared::domain::RoomId(1), "lobby", UserId(1));
        assert_eq!(Access::of(&room), Access::Open);
        room.is_private = true;
        assert_eq!(Access::of(&room), Access::Private);
        room.kind = RoomKind::Direct;
        assert_eq!(Access::of(&room), Access::Direct);
    }

    #[test]
    fn rows_and_columns_stand_in_the_order_of_their_enums() {
        for (index, (action, _)) in POLICY.iter().enumerate() {
            assert_eq!(*action as usize, index, "{action:?}");
        }
        for (index, role) in ROLES.into_iter().enumerate() {
            assert_eq!(role as usize, index, "{role:?}");
        }
    }

    #[test]
    fn a_user_may_do_what_any_of_their_roles_may() {
        let user = |id, is_admin| User {
            id: UserId(id),
            public_id: "ann".to_owned(),
            username: "ann".to_owned(),
            email: "ann".to_owned(),
            is_admin,
        };
        let owner = UserId(1);
        let (open, private) = (Access::Open, Access::Private);
        assert!(may(&user(1, false), Action::DeleteRoom, owner, private));
        assert!(may(&user(2, true), Action::DeleteRoom, owner, private));
        assert!(!may(&user(2, false), Action::DeleteRoom, owner, open));
        assert!(!may(&user(2, true), Action::See, owner, private), "an admin does not see a private room");
        assert!(may(&user(2, true), Action::See, owner, open));
        assert!(may_with_record(&user(1, false), Action::SeeEmail, owner));
        assert!(!may_with_record(&user(2, false), Action::SeeEmail, owner));
        assert!(may_anywhere(&user(1, true), Action::ListUsers) && !may_anywhere(&user(1, false), Action::ListUsers));
    }
}
