//! Known networks of users, and the signing keys that gateways must share.

use std::time::Duration;

use crate::support::{Database, NOW, on_both_back_ends};

on_both_back_ends![
    a_network_is_known_to_its_user_until_it_expires,
    only_the_latest_networks_are_kept,
    gateways_must_share_a_signing_key,
];

const MONTH: Duration = Duration::from_hours(30 * 24);

async fn a_network_is_known_to_its_user_until_it_expires(db: Database) {
    let (ann, bob) = (db.user("ann").await, db.user("bob").await);
    let until = NOW.plus(MONTH);
    for _ in 0..2 {
        db.store.remember_network(ann.id, "home".to_owned(), until, NOW).await.unwrap();
    }
    assert_eq!(db.store.known_network(ann.id, "home", NOW).await.unwrap(), Some(until));
    assert_eq!(db.store.known_network(ann.id, "home", until).await.unwrap(), None);
    assert_eq!(db.store.known_network(ann.id, "away", NOW).await.unwrap(), None);
    assert_eq!(db.store.known_network(bob.id, "home", NOW).await.unwrap(), None);
}

async fn only_the_latest_networks_are_kept(db: Database) {
    let ann = db.user("ann").await;
    for number in 0..25_u32 {
        let until = NOW.plus(MONTH + Duration::from_secs(number.into()));
        db.store.remember_network(ann.id, format!("network-{number}"), until, NOW).await.unwrap();
    }
    let known = async |number: u32| db.store.known_network(ann.id, &format!("network-{number}"), NOW).await.unwrap();
    assert_eq!(known(4).await, None);
    assert!(known(5).await.is_some() && known(24).await.is_some());
}

async fn gateways_must_share_a_signing_key(db: Database) {
    let agree = async |keys: &[&str], replace| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        db.store.agree_on_signing_keys(keys, replace, NOW).await.unwrap()
    };
    assert!(agree(&["a"], false).await, "the first gateway stores its keys");
    assert!(!agree(&["b"], false).await, "neither would accept a token of the other");
    // Rotation: the new key is added to the old one, and then stays alone.
    assert!(agree(&["b", "a"], false).await);
    assert!(agree(&["a"], false).await, "a gateway that does not have the new key yet");
    assert!(agree(&["b", "a"], false).await && agree(&["b"], false).await);
    assert!(!agree(&["a"], false).await, "a key that was removed");
    assert!(agree(&["c"], true).await && !agree(&["b"], false).await && agree(&["c"], false).await);
}
