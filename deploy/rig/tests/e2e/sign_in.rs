//! Wrong passwords slow down whoever sends them, and keep nobody out who has signed in before.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use rig::{Answer, App, Method, Stack};
use serde_json::json;

use crate::scene::furnish;

/// Some address of this machine.
fn from(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, number).into()
}

async fn log_in(app: &App, email: &str, password: &str) -> Answer {
    app.send_json("/auth/login", &json!({"email": email, "password": password})).await.unwrap()
}

#[tokio::test]
async fn a_stranger_cannot_lock_anybody_out() {
    let stack = Stack::builder().gateways(2).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    let url = stack.gateways[1].url();
    let strangers: Vec<App> = (1..=12).map(|number| App::at_from(&url, Some(from(number))).unwrap()).collect();
    let mut refused = 0;
    for _ in 0..11 {
        for stranger in &strangers {
            let answer = log_in(stranger, "ann", "a guess").await;
            assert!([401, 429].contains(&answer.status()), "{answer}");
            refused += u32::from(answer.status() == 429);
        }
    }
    // Ten from each network, and a hundred from all of them.
    assert!(refused >= 32 - 12, "{refused} of 132 guesses were slowed down");
    // The owner, where she was signed in before, and her telephone elsewhere, which has a token of hers.
    ann.login("ann").await.unwrap();
    let telephone = App::at_from(&url, Some(from(50))).unwrap();
    assert_eq!(log_in(&telephone, "ann", "secret of ann").await.status(), 429, "a device that nobody knows");
    let telephone = telephone.with_token(ann.token());
    assert_eq!(log_in(&telephone, "ann", "secret of ann").await.status(), 200);
    // From there it is known without the token, too.
    assert_eq!(log_in(&App::at_from(&url, Some(from(50))).unwrap(), "ann", "secret of ann").await.status(), 200);
    // Somebody else's token vouches for nothing.
    let bob = stack.app().unwrap().register("bob").await.unwrap();
    let other = App::at_from(&url, Some(from(51))).unwrap().with_token(bob.token());
    assert_eq!(log_in(&other, "ann", "secret of ann").await.status(), 429);
}

#[tokio::test]
async fn right_passwords_are_not_counted() {
    let (stack, ann) = furnish(Stack::builder().gateway("LOGIN_PER_ACCOUNT", "2").start().await.unwrap()).await;
    let elsewhere = App::at_from(&stack.gateways[0].url(), Some(from(60))).unwrap();
    for app in [&ann, &elsewhere] {
        for _ in 0..6 {
            assert_eq!(log_in(app, "ann", "secret of ann").await.status(), 200);
        }
    }
    assert_eq!(log_in(&elsewhere, "ann", "a guess").await.status(), 401);
}

#[tokio::test]
async fn trying_one_password_at_many_accounts_is_slowed_down() {
    let (stack, _ann) = furnish(Stack::start().await.unwrap()).await;
    let sprayer = App::at_from(&stack.gateways[0].url(), Some(from(70))).unwrap();
    let mut statuses = Vec::new();
    for number in 0..35 {
        statuses.push(log_in(&sprayer, &format!("user-{number}"), "Summer2026!").await.status());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 30, "{statuses:?}");
}

#[tokio::test]
async fn a_flood_of_logins_leaves_room_for_who_is_known() {
    let (stack, ann) = furnish(Stack::builder().gateway("LOGIN_PER_ADDRESS", "0").start().await.unwrap()).await;
    let url = stack.gateways[0].url();
    let flood = async {
        let attempts = stream::iter(0..400_u16).map(|number| {
            let app = App::at_from(&url, Some(from(u8::try_from(number % 200).unwrap()))).unwrap();
            async move { log_in(&app, &format!("nobody-{number}"), "a guess").await.status() }
        });
        attempts.buffer_unordered(100).collect::<Vec<_>>().await
    };
    let known = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            let asked = Instant::now();
            ann.login("ann").await.unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (statuses, slowest) = futures_util::future::join(flood, known).await;
    assert!(statuses.contains(&503), "the flood was no flood: {statuses:?}");
    assert!(slowest < Duration::from_secs(10), "a known device waited for {slowest:?}");
}

#[tokio::test]
async fn passwords_that_are_guessed_first_are_refused() {
    let stack = Stack::builder().gateway("ALLOW_WEAK_PASSWORDS", "false").gateway("PASSWORD_MIN_LENGTH", "8");
    let stack = stack.start().await.unwrap();
    let app = stack.app().unwrap();
    for (password, code) in [
        ("password1", "too_common"),
        ("Carol.Example", "own_name"),
        ("carol@example.org", "own_name"),
    ] {
        let body = json!({"email": "carol@example.org", "username": "carol.example", "password": password});
        let answer = app.send_json("/user/", &body).await.unwrap();
        assert_eq!(answer.status(), 400, "{answer}");
        assert_eq!(answer.json().unwrap()["errors"][0]["code"], code, "{password}");
    }
}

#[tokio::test]
async fn a_gateway_with_other_keys_refuses_to_start() {
    let mut stack = Stack::builder().gateways(2).start().await.unwrap();
    let other = stack.directory().join("other.key");
    let gateway = &mut stack.gateways[1].service;
    gateway.stop(Duration::from_secs(12)).await.unwrap();
    gateway.set("SIGNING_KEY_FILE", other.display().to_string());
    gateway.start().unwrap();
    assert_eq!(gateway.exit_code(Duration::from_secs(20)).await.unwrap(), 64);
    let log = gateway.log();
    let complaint: Vec<&str> = log.lines().filter(|line| line.contains("SIGNING_KEY_FILE")).collect();
    assert_eq!(complaint.len(), 1, "{log}");
    assert!(complaint[0].contains("replace-keys"), "{log}");
    // With the old key on a second line it is a rotation.
    let keys = [&other, &stack.signing_key_file()].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&other, keys.concat()).unwrap();
    stack.gateways[1].start().unwrap();
    stack.wait_ready().await.unwrap();
}

#[tokio::test]
async fn what_a_user_can_create_has_a_number() {
    let stack = Stack::builder()
        .gateway("ROOMS_PER_USER", "3")
        .gateway("CREATE_ROOM_PER_HOUR", "5")
        .gateway("JOIN_PER_MIN", "4");
    let (_stack, ann) = furnish(stack.start().await.unwrap()).await;
    let code = async |method: Method, path: &str| {
        let answer = ann.call(method, path).await.unwrap();
        if answer.status() == 429 {
            assert!(answer.header("retry-after").is_some(), "{answer}");
            return answer.json().unwrap()["code"].as_str().unwrap().to_owned();
        }
        answer.status().to_string()
    };
    assert_eq!(code(Method::POST, "/chat/second").await, "201");
    assert_eq!(code(Method::POST, "/chat/third").await, "201");
    assert_eq!(code(Method::POST, "/chat/fourth").await, "too_many_rooms");
    assert_eq!(code(Method::DELETE, "/chat/third").await, "204");
    assert_eq!(code(Method::POST, "/chat/fourth").await, "201");
    assert_eq!(code(Method::POST, "/chat/fifth").await, "rate_limited");
    let bob = ann.register("bob").await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(bob.try_post("lobby", "joins", None).await.unwrap().status());
        statuses.push(bob.call(Method::DELETE, "/chat/lobby/message").await.unwrap().status());
    }
    assert_eq!(statuses[..4], [204, 204, 204, 204]);
    assert_eq!(statuses[4..], [429, 429], "as often as that nobody comes and goes");
    let limits = ann.get("/info").await.unwrap().json().unwrap()["limits"].clone();
    assert_eq!((&limits["rooms_per_user"], &limits["join_per_min"]), (&json!(3), &json!(4)));
}

#[tokio::test]
async fn refusals_are_written_once_and_counted_without_what_is_private() {
    let stack = Stack::builder().gateway("LOGIN_PER_ACCOUNT", "3").start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    for _ in 0..30 {
        log_in(&ann, "ann", "canary-password").await;
    }
    ann.logout().await.unwrap();
    assert_eq!(ann.get("/chat/").await.unwrap().status(), 401);
    let told = rig::eventually(Duration::from_secs(25), "the count is written", async || {
        let log = stack.gateways[0].service.log();
        let has = |text: &str| log.lines().any(|line| line.contains(text));
        if has("login_refused") && has("revoked_token_used") && has("more within 10 s") {
            Ok(log)
        } else {
            Err(rig::Failure::new("not yet"))
        }
    });
    let log = told.await.unwrap();
    assert!(log.lines().filter(|line| line.contains("rate_limited")).count() <= 4, "{log}");
    assert!(!log.contains("canary-password") && !log.contains(ann.token()), "{log}");
}
