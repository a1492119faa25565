//! Names that look the same are one name, and users of earlier releases keep theirs.

use shared::domain::{Email, PublicId, RoomName, Username};
use shared::storage::{CreateRoom, CreateRoomError, CreateUserError, NewUser};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::support::{BackEnd, Database, NOW, on_both_back_ends};

on_both_back_ends![
    names_that_look_the_same_are_taken,
    an_email_logs_in_in_any_spelling,
    users_of_earlier_releases_get_the_free_keys,
    room_names_must_differ_in_more_than_case,
];

fn someone(email: &str, username: &str, public_id: &str) -> NewUser {
    NewUser {
        email: Email::parse(email, false).unwrap(),
        username: Username::parse(username).unwrap(),
        public_id: PublicId::parse(public_id).unwrap(),
        ..NewUser::for_tests("x")
    }
}

/// Runs statements that the product never runs.
async fn execute(db: &Database, statements: &[&str]) {
    for statement in statements {
        match db.back_end {
            BackEnd::Sqlite => {
                let query = sqlx::query(AssertSqlSafe((*statement).to_owned()));
                query.execute(&mut SqliteConnection::connect(&db.url).await.unwrap()).await.unwrap();
            }
            BackEnd::Postgres => {
                let query = sqlx::query(AssertSqlSafe((*statement).to_owned()));
                query.execute(&mut PgConnection::connect(&db.url).await.unwrap()).await.unwrap();
            }
        }
    }
}

async fn names_that_look_the_same_are_taken(db: Database) {
    db.store.create_user(someone("Carol@Example.org", "carol", "c1"), NOW).await.unwrap();
    let create = |email, username, public_id| db.store.create_user(someone(email, username, public_id), NOW);
    let refused = create("carol@example.ORG", "dave", "d1").await;
    assert!(matches!(refused, Err(CreateUserError::EmailTaken)), "{refused:?}");
    for name in ["CAROL", "c\u{430}rol", "ＣＡＲＯＬ", "C1"] {
        let refused = create("dave@example.org", name, "d1").await;
        assert!(matches!(refused, Err(CreateUserError::UsernameTaken)), "{name}: {refused:?}");
    }
    for id in ["C1", "cl", "Carol"] {
        let refused = create("dave@example.org", "dave", id).await;
        assert!(matches!(refused, Err(CreateUserError::PublicIdTaken)), "{id}: {refused:?}");
    }
    // The username and the public id of one user may be the same.
    create("dave@example.org", "dave", "dave").await.unwrap();
}

async fn an_email_logs_in_in_any_spelling(db: Database) {
    let carol = db.store.create_user(someone("Carol@Example.org", "carol", "c1"), NOW).await.unwrap();
    for spelling in ["Carol@Example.org", "carol@example.org", "CAROL@EXAMPLE.ORG"] {
        let account = db.store.account_by_email(&Email::parse(spelling, false).unwrap()).await.unwrap().unwrap();
        assert_eq!(account.user, carol, "{spelling}");
        assert_eq!(account.user.email, "Carol@Example.org");
    }
}

async fn users_of_earlier_releases_get_the_free_keys(db: Database) {
    for (email, name, id) in [("Ann@x.org", "Ann", "a1"), ("bob@x.org", "Bob", "b1")] {
        db.store.create_user(someone(email, name, id), NOW).await.unwrap();
    }
    // As an earlier release left them: no keys, and two users whose names look the same.
    execute(
        &db,
        &[
            "UPDATE users SET email_key = NULL, username_key = NULL, public_id_key = NULL",
            "UPDATE users SET email = 'ann@x.org', username = 'ann' WHERE public_id = 'b1'",
        ],
    )
    .await;
    for _ in 0..2 {
        db.store.migrate(4, 1).await.unwrap();
        for (spelling, id) in [("Ann@x.org", "a1"), ("ann@x.org", "b1"), ("ANN@X.ORG", "a1")] {
            let account = db.store.account_by_email(&Email::parse(spelling, false).unwrap()).await.unwrap().unwrap();
            assert_eq!(account.user.public_id, id, "{spelling}");
        }
        let email = db.store.create_user(someone("aNN@x.org", "eve", "e1"), NOW).await;
        assert!(matches!(email, Err(CreateUserError::EmailTaken)), "{email:?}");
        let name = db.store.create_user(someone("eve@x.org", "aNN", "e1"), NOW).await;
        assert!(matches!(name, Err(CreateUserError::UsernameTaken)), "{name:?}");
        let id = db.store.create_user(someone("eve@x.org", "eve", "B1"), NOW).await;
        assert!(matches!(id, Err(CreateUserError::PublicIdTaken)), "{id:?}");
    }
}

async fn room_names_must_differ_in_more_than_case(db: Database) {
    let ann = db.user("ann").await;
    let room = db.room("Lobby", &ann).await;
    let create = |name| db.store.create_room(CreateRoom::public(RoomName::parse(name).unwrap(), ann.id), NOW);
    assert!(matches!(create("lobby").await, Err(CreateRoomError::Exists)));
    assert!(matches!(create("LOBBY").await, Err(CreateRoomError::Exists)));
    assert!(db.store.delete_room(room.id, NOW).await.unwrap());
    create("lobby").await.unwrap();
}
