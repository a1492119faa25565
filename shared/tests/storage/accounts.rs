//! Users and their sessions.

use std::time::Duration;

use shared::domain::{Email, PublicId, SessionId, Timestamp, Username};
use shared::storage::{CreateUserError, NewUser};
use uuid::Uuid;

use crate::support::{Database, NOW, on_both_back_ends};

on_both_back_ends![
    a_user_is_found_by_email_and_public_id,
    a_taken_value_is_named_in_the_error,
    only_the_first_user_can_become_an_admin_by_registering,
    users_are_listed_in_pages,
    a_password_hash_can_be_replaced,
    a_session_exists_until_it_is_revoked,
    a_new_session_deletes_expired_ones,
];

async fn a_user_is_found_by_email_and_public_id(db: Database) {
    let ann = db.user("ann").await;
    let account = db.store.account_by_email(&Email::parse("ann", false).unwrap()).await.unwrap().unwrap();
    assert_eq!((account.user, account.password_hash.as_str()), (ann.clone(), "hash"));
    assert_eq!(db.store.user_by_public_id(&PublicId::parse("ann").unwrap()).await.unwrap(), Some(ann));
    assert!(db.store.user_by_public_id(&PublicId::parse("bob").unwrap()).await.unwrap().is_none());
    assert!(db.store.account_by_email(&Email::parse("bob", false).unwrap()).await.unwrap().is_none());
}

async fn a_taken_value_is_named_in_the_error(db: Database) {
    db.user("ann").await;
    let with = |change: fn(&mut NewUser)| {
        let mut user = NewUser::for_tests("bob");
        change(&mut user);
        db.store.create_user(user, NOW)
    };
    let email = with(|user| user.email = Email::parse("ann", false).unwrap()).await;
    assert!(matches!(email, Err(CreateUserError::EmailTaken)));
    let name = with(|user| user.username = Username::parse("ann").unwrap()).await;
    assert!(matches!(name, Err(CreateUserError::UsernameTaken)));
    let public_id = with(|user| user.public_id = PublicId::parse("ann").unwrap()).await;
    assert!(matches!(public_id, Err(CreateUserError::PublicIdTaken)));
}

async fn only_the_first_user_can_become_an_admin_by_registering(db: Database) {
    let mut first = NewUser::for_tests("ann");
    first.admin_if_first = true;
    let mut second = NewUser::for_tests("bob");
    second.admin_if_first = true;
    assert!(db.store.create_user(first, NOW).await.unwrap().is_admin);
    assert!(!db.store.create_user(second, NOW).await.unwrap().is_admin);
    assert!(db.store.grant_admin(&Username::parse("bob").unwrap()).await.unwrap());
    assert!(!db.store.grant_admin(&Username::parse("eve").unwrap()).await.unwrap());
    assert!(db.store.list_users("ann", 10).await.unwrap()[0].is_admin);
}

async fn users_are_listed_in_pages(db: Database) {
    for name in ["cid", "ann", "bob"] {
        db.user(name).await;
    }
    let names = |users: Vec<shared::storage::User>| users.into_iter().map(|user| user.public_id).collect::<Vec<_>>();
    assert_eq!(names(db.store.list_users("", 2).await.unwrap()), ["ann", "bob"]);
    assert_eq!(names(db.store.list_users("bob", 2).await.unwrap()), ["cid"]);
}

async fn a_password_hash_can_be_replaced(db: Database) {
    let ann = db.user("ann").await;
    db.store.replace_password_hash(ann.id, "stronger".to_owned()).await.unwrap();
    let account = db.store.account_by_email(&Email::parse("ann", false).unwrap()).await.unwrap().unwrap();
    assert_eq!(account.password_hash, "stronger");
}

async fn a_session_exists_until_it_is_revoked(db: Database) {
    let ann = db.user("ann").await;
    let (id, other) = (SessionId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
    let expires_on = NOW.plus(Duration::from_mins(1));
    db.store.create_session(id, ann.id, expires_on, NOW).await.unwrap();
    db.store.create_session(other, ann.id, expires_on, NOW).await.unwrap();
    let session = db.store.session(id).await.unwrap().unwrap();
    assert_eq!((session.user, session.expires_on), (ann, expires_on));
    db.store.revoke_session(id, NOW).await.unwrap();
    assert!(db.store.session(id).await.unwrap().is_none());
    assert!(db.store.session(other).await.unwrap().is_some());
    let unknown = SessionId(Uuid::from_u128(3));
    assert_eq!(db.store.unrevoked_sessions(&[id, other, unknown]).await.unwrap(), [other].into());
}

async fn a_new_session_deletes_expired_ones(db: Database) {
    let ann = db.user("ann").await;
    let (old, new) = (SessionId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
    db.store.create_session(old, ann.id, NOW, NOW).await.unwrap();
    let later = Timestamp(NOW.0 + 1);
    db.store.create_session(new, ann.id, later, later).await.unwrap();
    assert!(db.store.session(old).await.unwrap().is_none());
    assert!(db.store.session(new).await.unwrap().is_some());
}
