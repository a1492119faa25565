//! Access policy: which role may do what, as one table.
//!
//! Everybody holds the role of an outsider, and further roles by what they are to the room or the user record in question. A
//! user may do what any of their roles may do. A role grants nothing beyond its row of the table: an admin does not see a
//! private room that they are not in, but may delete it by its name.
//!
//! A user who may not see the room gets the answer for a room that does not exist; one who may see it gets `forbidden`.

use shared::domain::UserId;
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
    /// Stop being a member.
    Leave,
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
    /// The action everywhere.
    Yes,
}

use Grant::{No, Public, Yes};

/// The policy: a row for each action, a column for each role.
#[rustfmt::skip]
const POLICY: [(Action, [Grant; 4]); 11] = [
    //                          Outsider  Member  Owner  Admin
    (Action::See,              [Public,   Yes,    No,    No ]),
    (Action::Join,             [Public,   Yes,    No,    No ]),
    (Action::Post,             [Public,   Yes,    No,    No ]),
    (Action::Read,             [Public,   Yes,    No,    No ]),
    (Action::Follow,           [Public,   Yes,    No,    No ]),
    (Action::DeleteMessages,   [No,       No,     Yes,   Yes]),
    (Action::Leave,            [Public,   Yes,    No,    No ]),
    (Action::DeleteRoom,       [No,       No,     Yes,   Yes]),
    (Action::TakeReservedName, [No,       No,     Yes,   Yes]),
    (Action::ListUsers,        [No,       No,     No,    Yes]),
    (Action::SeeEmail,         [No,       No,     Yes,   Yes]),
];

impl Role {
    /// Whether this role may do `action`, in a private room or elsewhere.
    const fn may(self, action: Action, is_private: bool) -> bool {
        match POLICY[action as usize].1[self as usize] {
            No => false,
            Public => !is_private,
            Yes => true,
        }
    }
}

/// Whether a member of `room` may do `action` there.
#[must_use]
pub fn member_may(action: Action, room: &Room) -> bool {
    Role::Member.may(action, room.is_private)
}

/// Whether `user` may do `action` in `room` without being a member of it.
#[must_use]
pub fn non_member_may(user: &User, action: Action, room: &Room) -> bool {
    may(user, action, room.owner_id, room.is_private)
}

/// Whether `user` may do `action` that concerns no room.
#[must_use]
pub fn may_anywhere(user: &User, action: Action) -> bool {
    Role::Outsider.may(action, false) || (user.is_admin && Role::Admin.may(action, false))
}

/// Whether `user` may do `action` with the record of the user `subject`.
#[must_use]
pub fn may_with_record(user: &User, action: Action, subject: UserId) -> bool {
    may(user, action, subject, false)
}

fn may(user: &User, action: Action, owner: UserId, is_private: bool) -> bool {
    Role::Outsider.may(action, is_private)
        || (user.id == owner && Role::Owner.may(action, is_private))
        || (user.is_admin && Role::Admin.may(action, is_private))
}

/// Writes to the log that `user` was forbidden to do `what`.
pub fn report_forbidden(user: UserId, what: &str) {
    FORBIDDEN.report(format_args!("user:{}", user.0), what);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 4] = [Role::Outsider, Role::Member, Role::Owner, Role::Admin];

    /// What each role may do in a public and in a private room, in words.
    const EXPECTED: [(Role, &str, &str); 4] = [
        (Role::Outsider, "See Join Post Read Follow Leave", ""),
        (Role::Member, "See Join Post Read Follow Leave", "See Join Post Read Follow Leave"),
        (
            Role::Owner,
            "DeleteMessages DeleteRoom TakeReservedName SeeEmail",
            "DeleteMessages DeleteRoom TakeReservedName SeeEmail",
        ),
        (
            Role::Admin,
            "DeleteMessages DeleteRoom TakeReservedName ListUsers SeeEmail",
            "DeleteMessages DeleteRoom TakeReservedName ListUsers SeeEmail",
        ),
    ];

    #[test]
    fn each_role_may_do_exactly_what_is_listed() {
        let allowed = |role: Role, is_private| {
            let actions = POLICY.iter().map(|(action, _)| *action).filter(|action| role.may(*action, is_private));
            actions.map(|action| format!("{action:?}")).collect::<Vec<_>>().join(" ")
        };
        for (role, in_public, in_private) in EXPECTED {
            assert_eq!(allowed(role, false), in_public, "{role:?} in a public room");
            assert_eq!(allowed(role, true), in_private, "{role:?} in a private room");
        }
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
        assert!(may(&user(1, false), Action::DeleteRoom, owner, true));
        assert!(may(&user(2, true), Action::DeleteRoom, owner, true));
        assert!(!may(&user(2, false), Action::DeleteRoom, owner, false));
        assert!(!may(&user(2, true), Action::See, owner, true), "an admin does not see a private room");
        assert!(may(&user(2, true), Action::See, owner, false));
        assert!(may_with_record(&user(1, false), Action::SeeEmail, owner));
        assert!(!may_with_record(&user(2, false), Action::SeeEmail, owner));
        assert!(may_anywhere(&user(1, true), Action::ListUsers) && !may_anywhere(&user(1, false), Action::ListUsers));
    }
}
