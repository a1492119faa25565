//! The calls about users: every success and every failure the contract lists.

use rig::Stack;
use serde_json::{Value, json};

use crate::fixture::lobby;

fn user(email: &str, username: &str, public_id: &str) -> Value {
    json!({"email": email, "username": username, "password": "secret", "public_id": public_id})
}

#[tokio::test]
async fn registration_refuses_taken_and_invalid_values() {
    let stack = Stack::start().await.unwrap();
    let anyone = stack.client().unwrap();
    anyone.send_json("/user/", &user("a@b.c", "Ann Lee", "ann")).await.unwrap().expect(201).unwrap();

    let taken = [
        (user("a@b.c", "other", "other"), "email_taken"),
        (user("A@B.C", "other", "other"), "email_taken"),
        (user("other", "Ann Lee", "other"), "username_taken"),
        (user("other", "\u{410}NN  LEE", "other"), "username_taken"),
        (user("other", "ann", "other"), "username_taken"),
        (user("other", "other", "ANN"), "public_id_taken"),
        (user("other", "other", "ann"), "public_id_taken"),
    ];
    for (body, code) in taken {
        anyone.send_json("/user/", &body).await.unwrap().expect_error(409, code).unwrap();
    }

    let mut short_password = user("e", "n", "p");
    short_password["password"] = json!("abc");
    let mut long_password = user("e", "n", "p");
    long_password["password"] = json!("x".repeat(129));
    let not_valid = [
        (user("", "n", "p"), "email"),
        (user(&"x".repeat(255), "n", "p"), "email"),
        (user("a b", "n", "p"), "email"),
        (user("e", "", "p"), "username"),
        (user("e", " n", "p"), "username"),
        (user("e", "n\n", "p"), "username"),
        (user("e", &"x".repeat(51), "p"), "username"),
        (user("e", "\u{3164}", "p"), "username"),
        (user("e", "n\u{AD}", "p"), "username"),
        (user("e", "%2e", "p"), "username"),
        (user("e", "Me", "p"), "username"),
        (user("e", "n", "sync"), "public_id"),
        (user("e", "n", ""), "public_id"),
        (user("e", "n", "a b"), "public_id"),
        (short_password, "password"),
        (long_password, "password"),
    ];
    for (body, field) in not_valid {
        let response = anyone.send_json("/user/", &body).await.unwrap();
        let problem = response.expect_error(400, "invalid_field").unwrap();
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }

    for field in ["email", "username", "password"] {
        let mut body = user("e", "n", "p");
        body.as_object_mut().unwrap().remove(field);
        let response = anyone.send_json("/user/", &body).await.unwrap();
        assert_eq!(response.status(), 400, "{response}");
        response.expect_error_shape().unwrap();
        body[field] = json!(["no", "text"]);
        let response = anyone.send_json("/user/", &body).await.unwrap();
        assert_eq!(response.status(), 400, "{response}");
        response.expect_error_shape().unwrap();
    }
    // Names of refused registrations are still free.
    anyone.send_json("/user/", &user("e", "n", "p")).await.unwrap().expect(201).unwrap();
}

#[tokio::test]
async fn only_admin_lists_users() {
    let (stack, admin) = lobby().await;
    let anyone = stack.client().unwrap();
    let bob = anyone.register("bob").await.unwrap();
    let generated = json!({"email": "eve@x.y", "username": "eve", "password": "eve1"});
    anyone.send_json("/user/", &generated).await.unwrap().expect(201).unwrap();

    anyone.get("/user/").await.unwrap().expect_error(401, "unauthorized").unwrap();
    bob.get("/user/").await.unwrap().expect_error(403, "forbidden").unwrap();
    let list = admin.get("/user/").await.unwrap().expect(200).unwrap().json().unwrap();
    let users = list["data"].as_array().unwrap();
    assert_eq!(list.as_object().unwrap().len(), 1);
    assert_eq!(users.len(), 3);
    assert!(users.contains(&json!({"email": "bob", "username": "bob", "public_id": "bob"})), "{list}");
    let eve = users.iter().find(|user| user["username"] == "eve").unwrap();
    let eve_id = eve["public_id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(eve_id).unwrap().get_version_num(), 7);
}

#[tokio::test]
async fn email_is_shown_to_oneself_and_admins_only() {
    let (stack, admin) = lobby().await;
    let anyone = stack.client().unwrap();
    let bob = anyone.register("bob").await.unwrap();
    anyone.get("/user/ann").await.unwrap().expect_error(401, "unauthorized").unwrap();
    bob.get("/user/nobody").await.unwrap().expect_error(404, "user_not_found").unwrap();
    let of_ann = bob.get("/user/ann").await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!(of_ann, json!({"username": "ann", "public_id": "ann"}));
    let with_email = json!({"email": "bob", "username": "bob", "public_id": "bob"});
    for client in [&bob, &admin] {
        let of_bob = client.get("/user/bob").await.unwrap().expect(200).unwrap().json().unwrap();
        assert_eq!(of_bob, with_email);
    }
}

#[tokio::test]
async fn wrong_password_and_unknown_user_are_indistinguishable() {
    let (stack, _ann) = lobby().await;
    let anyone = stack.client().unwrap();
    let mut bodies = Vec::new();
    for body in [
        json!({"email": "ann", "password": "wrong"}),
        json!({"email": "nobody", "password": "wrong"}),
    ] {
        let response = anyone.send_json("/auth/login", &body).await.unwrap();
        let mut body = response.expect_error(401, "invalid_credentials").unwrap();
        body.as_object_mut().unwrap().remove("request_id");
        bodies.push(body);
    }
    assert_eq!(bodies[0], bodies[1]);
    for body in [
        json!({"email": "ann"}),
        json!({"password": "ann"}),
        json!([]),
        json!({"email": 1, "password": 2}),
    ] {
        let response = anyone.send_json("/auth/login", &body).await.unwrap();
        assert_eq!(response.status(), 400, "{response}");
        response.expect_error_shape().unwrap();
    }
}

#[tokio::test]
async fn logout_ends_a_session_once() {
    let (stack, ann) = lobby().await;
    let anyone = stack.client().unwrap();
    anyone
        .call(rig::Method::POST, "/auth/logout")
        .await
        .unwrap()
        .expect_error(401, "unauthorized")
        .unwrap();
    ann.logout().await.unwrap();
    ann.call(rig::Method::POST, "/auth/logout")
        .await
        .unwrap()
        .expect_error(401, "session_revoked")
        .unwrap();
}
