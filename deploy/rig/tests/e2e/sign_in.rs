//! Limits of sign-in: wrong passwords slow down their sender, and do not lock out users who have signed in before.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use rig::{ApiClient, HttpResponse, Method, Stack};
use serde_json::json;

use crate::fixture::with_lobby;

/// A loopback address with this number.
fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, number).into()
}

async fn log_in(client: &ApiClient, email: &str, password: &str) -> HttpResponse {
    client.send_json("/auth/login", &json!({"email": email, "password": password})).await.unwrap()
}

#[tokio::test]
async fn unknown_clients_cannot_lock_out_an_account() {
    let stack = Stack::builder().gateways(2).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    let url = stack.gateways[1].url();
    let unknown_clients: Vec<ApiClient> =
        (1..=12).map(|number| ApiClient::at_from(&url, Some(address(number))).unwrap()).collect();
    let mut refused = 0;
    for _ in 0..11 {
        for unknown in &unknown_clients {
            let response = log_in(unknown, "ann", "a guess").await;
            assert!([401, 429].contains(&response.status()), "{response}");
            refused += u32::from(response.status() == 429);
        }
    }
    // Ten from each network, and a hundred from all of them.
    assert!(refused >= 32 - 12, "{refused} of 132 guesses were slowed down");
    // The owner can sign in from the address where she was signed in before, and with a token from another device elsewhere.
    ann.login("ann").await.unwrap();
    let other_device = ApiClient::at_from(&url, Some(address(50))).unwrap();
    assert_eq!(log_in(&other_device, "ann", "secret of ann").await.status(), 429, "an unknown device");
    let other_device = other_device.with_token(ann.token());
    assert_eq!(log_in(&other_device, "ann", "secret of ann").await.status(), 200);
    // From then on that address is known without the token, too.
    assert_eq!(
        log_in(&ApiClient::at_from(&url, Some(address(50))).unwrap(), "ann", "secret of ann").await.status(),
        200
    );
    // Another user's token does not make a device known.
    let bob = stack.client().unwrap().register("bob").await.unwrap();
    let foreign = ApiClient::at_from(&url, Some(address(51))).unwrap().with_token(bob.token());
    assert_eq!(log_in(&foreign, "ann", "secret of ann").await.status(), 429);
}

#[tokio::test]
async fn right_passwords_are_not_counted() {
    let (stack, ann) = with_lobby(Stack::builder().gateway("LOGIN_PER_ACCOUNT", "2").start().await.unwrap()).await;
    let elsewhere = ApiClient::at_from(&stack.gateways[0].url(), Some(address(60))).unwrap();
    for client in [&ann, &elsewhere] {
        for _ in 0..6 {
            assert_eq!(log_in(client, "ann", "secret of ann").await.status(), 200);
        }
    }
    assert_eq!(log_in(&elsewhere, "ann", "a guess").await.status(), 401);
}

#[tokio::test]
async fn password_spraying_is_limited() {
    let (stack, _ann) = with_lobby(Stack::start().await.unwrap()).await;
    let sprayer = ApiClient::at_from(&stack.gateways[0].url(), Some(address(70))).unwrap();
    let mut statuses = Vec::new();
    for number in 0..35 {
        statuses.push(log_in(&sprayer, &format!("user-{number}"), "Summer2026!").await.status());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 30, "{statuses:?}");
}

#[tokio::test]
async fn login_flood_does_not_block_known_clients() {
    let (stack, ann) = with_lobby(Stack::builder().gateway("LOGIN_PER_ADDRESS", "0").start().await.unwrap()).await;
    let url = stack.gateways[0].url();
    let flood = async {
        let attempts = stream::iter(0..400_u16).map(|number| {
            let client = ApiClient::at_from(&url, Some(address(u8::try_from(number % 200).unwrap()))).unwrap();
            async move { log_in(&client, &format!("nobody-{number}"), "a guess").await.status() }
        });
        attempts.buffer_unordered(100).collect::<Vec<_>>().await
    };
    let known_client = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            let asked = Instant::now();
            ann.login("ann").await.unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (statuses, slowest) = futures_util::future::join(flood, known_client).await;
    assert!(statuses.contains(&503), "the flood was too small: {statuses:?}");
    assert!(slowest < Duration::from_secs(10), "a known device waited for {slowest:?}");
}

#[tokio::test]
async fn common_passwords_and_own_names_are_refused() {
    let stack = Stack::builder().gateway("ALLOW_WEAK_PASSWORDS", "false").gateway("PASSWORD_MIN_LENGTH", "8");
    let stack = stack.start().await.unwrap();
    let client = stack.client().unwrap();
    for (password, code) in [
        ("password1", "too_common"),
        ("Carol.Example", "own_name"),
        ("carol@example.org", "own_name"),
    ] {
        let body = json!({"email": "carol@example.org", "username": "carol.example", "password": password});
        let response = client.send_json("/user/", &body).await.unwrap();
        assert_eq!(response.status(), 400, "{response}");
        assert_eq!(response.json().unwrap()["errors"][0]["code"], code, "{password}");
    }
}

#[tokio::test]
async fn gateway_with_other_signing_keys_does_not_start() {
    let mut stack = Stack::builder().gateways(2).start().await.unwrap();
    let other = stack.directory().join("other.key");
    let gateway = &mut stack.gateways[1].process;
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
async fn rooms_and_joins_of_a_user_are_limited() {
    let stack = Stack::builder()
        .gateway("ROOMS_PER_USER", "3")
        .gateway("CREATE_ROOM_PER_HOUR", "5")
        .gateway("JOIN_PER_MIN", "4");
    let (_stack, ann) = with_lobby(stack.start().await.unwrap()).await;
    let code = async |method: Method, path: &str| {
        let response = ann.call(method, path).await.unwrap();
        if response.status() == 429 {
            assert!(response.header("retry-after").is_some(), "{response}");
            return response.json().unwrap()["code"].as_str().unwrap().to_owned();
        }
        response.status().to_string()
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
    assert_eq!(statuses[4..], [429, 429], "joins are limited");
    let limits = ann.get("/info").await.unwrap().json().unwrap()["limits"].clone();
    assert_eq!((&limits["rooms_per_user"], &limits["join_per_min"]), (&json!(3), &json!(4)));
}

#[tokio::test]
async fn refusals_are_logged_once_without_private_data() {
    let stack = Stack::builder().gateway("LOGIN_PER_ACCOUNT", "3").start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    for _ in 0..30 {
        log_in(&ann, "ann", "canary-password").await;
    }
    ann.logout().await.unwrap();
    assert_eq!(ann.get("/chat/").await.unwrap().status(), 401);
    let logged = rig::eventually(Duration::from_secs(25), "the count is written", async || {
        let log = stack.gateways[0].process.log();
        let has = |text: &str| log.lines().any(|line| line.contains(text));
        if has("login_refused") && has("revoked_token_used") && has("more within 10 s") {
            Ok(log)
        } else {
            Err(rig::Failure::new("not yet"))
        }
    });
    let log = logged.await.unwrap();
    assert!(log.lines().filter(|line| line.contains("rate_limited")).count() <= 4, "{log}");
    assert!(!log.contains("canary-password") && !log.contains(ann.token()), "{log}");
}
