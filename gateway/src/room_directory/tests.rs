//! Who finds and joins which rooms, on SQLite. Rate limits are off, so no Redis is needed.

use clap::Parser as _;
use shared::bus::RedisConnector;
use shared::settings::RedisArgs;
use shared::storage::{CreateRoom, NewUser, Role};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Config;

struct Fixture {
    store: Store,
    directory: RoomDirectory,
    _files: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", files.path().join("roomcast.db").display());
        let store = Store::open(&url, Role::Gateway).await.unwrap();
        let installation = store.migrate(4, 1).await.unwrap();
        let nowhere = RedisArgs::at("redis://127.0.0.1:1");
        let redis = RedisConnector::open(&nowhere, installation.key_space(), CancellationToken::new()).unwrap();
        let limits = Config::parse_from(["gateway", "--join-per-min", "0"]).limits;
        Self {
            directory: RoomDirectory::new(
                store.clone(),
                RateLimits::new(&limits, redis.client()),
                OutboxHints::new(store.clone(), redis.client(), installation, |_| true),
            ),
            store,
            _files: files,
        }
    }

    async fn user(&self, name: &str, is_admin: bool) -> User {
        let new = NewUser::for_tests(name);
        let mut user = self.store.create_user(new, Timestamp(0)).await.unwrap();
        user.is_admin = is_admin;
        user
    }

    async fn room(&self, name: &str, owner: &User, is_private: bool) -> RoomName {
        let name = RoomName::parse(name).unwrap();
        let new = CreateRoom {
            is_private,
            ..CreateRoom::public(name.clone(), owner.id)
        };
        self.store.create_room(new, Timestamp(0)).await.unwrap();
        name
    }

    async fn finds(&self, name: &RoomName, user: &User, action: Action) -> bool {
        self.directory.find(name, user, action).await.unwrap().is_some()
    }

    async fn joins(&self, name: &RoomName, user: &User) -> bool {
        self.directory.join(name, user, Action::Post, JoinMode::ByName, Timestamp(0)).await.is_ok()
    }
}

#[tokio::test]
async fn a_private_room_is_for_its_members_alone() {
    let fixture = Fixture::new().await;
    let (ann, bob, admin) =
        (fixture.user("ann", false).await, fixture.user("bob", false).await, fixture.user("root", true).await);
    let room = fixture.room("cabinet", &ann, true).await;
    for (user, is_member) in [(&ann, true), (&bob, false), (&admin, false)] {
        assert_eq!(fixture.finds(&room, user, Action::Read).await, is_member, "{}", user.username);
        assert_eq!(fixture.joins(&room, user).await, is_member, "{}", user.username);
    }
    for (user, may_delete) in [(&ann, true), (&bob, false), (&admin, true)] {
        assert_eq!(fixture.finds(&room, user, Action::DeleteRoom).await, may_delete, "{}", user.username);
    }
}

#[tokio::test]
async fn a_public_room_is_joined_by_posting() {
    let fixture = Fixture::new().await;
    let (ann, bob) = (fixture.user("ann", false).await, fixture.user("bob", false).await);
    let room = fixture.room("lobby", &ann, false).await;
    assert!(fixture.finds(&room, &bob, Action::See).await);
    assert!(!fixture.finds(&room, &bob, Action::DeleteRoom).await);
    let joined = fixture.directory.join(&room, &bob, Action::Post, JoinMode::ByName, Timestamp(0)).await.unwrap();
    assert!(fixture.directory.is_current(&joined, bob.id).await.unwrap());
    fixture.store.leave(joined.room.id, bob.id, Timestamp(0)).await.unwrap();
    assert!(!fixture.directory.is_current(&joined, bob.id).await.unwrap());
}

#[tokio::test]
async fn an_owner_who_left_may_still_delete_the_room() {
    let fixture = Fixture::new().await;
    let ann = fixture.user("ann", false).await;
    let name = fixture.room("cabinet", &ann, true).await;
    let room = fixture.directory.find(&name, &ann, Action::Leave).await.unwrap().unwrap();
    fixture.store.leave(room.id, ann.id, Timestamp(0)).await.unwrap();
    fixture.directory.forget_member(room.id, ann.id);
    assert!(!fixture.finds(&name, &ann, Action::See).await);
    assert!(fixture.finds(&name, &ann, Action::DeleteRoom).await);
}
