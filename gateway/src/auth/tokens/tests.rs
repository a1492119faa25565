use super::*;

const DAY: Duration = Duration::from_hours(24);

fn key(seed: u8) -> Vec<u8> {
    (0..32).map(|i| i ^ seed).collect()
}

#[test]
fn a_token_names_its_session() {
    let tokens = Tokens::new(&[key(1)], DAY);
    let session = SessionId(Uuid::new_v4());
    let token = tokens.issue(session, "test1", Timestamp::now());
    for _ in 0..2 {
        assert_eq!(tokens.verify(&token, Timestamp::now()), Ok(session));
    }
}

#[test]
fn a_cached_token_expires_and_vouches_for_no_other() {
    let (tokens, now) = (Tokens::new(&[key(1)], DAY), Timestamp::now());
    let token = tokens.issue(SessionId(Uuid::new_v4()), "test1", now);
    assert!(tokens.verify(&token, now).is_ok());
    let after = |extra: Duration| tokens.verify(&token, now.plus(DAY + extra));
    assert!(after(Duration::ZERO).is_ok());
    assert_eq!(after(Duration::from_secs(1)), Err(Refused::Expired));
    // The same claims with a signature that is cut short, or of another token.
    let other = tokens.issue(SessionId(Uuid::new_v4()), "test2", now);
    let (claims, signature) = (token.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
    for forged in [&token[..token.len() - 1], &format!("{claims}.{signature}")] {
        assert_eq!(tokens.verify(forged, now), Err(Refused::Invalid));
    }
}

#[test]
fn keys_can_be_rotated_without_logging_anybody_out() {
    let session = SessionId(Uuid::new_v4());
    let old = Tokens::new(&[key(1)], DAY).issue(session, "test1", Timestamp::now());
    let now = Timestamp::now();
    assert_eq!(Tokens::new(&[key(2), key(1)], DAY).verify(&old, now), Ok(session));
    assert_eq!(Tokens::new(&[key(2)], DAY).verify(&old, now), Err(Refused::Invalid));
}

#[test]
fn an_expired_token_is_told_from_a_forged_one() {
    let tokens = Tokens::new(&[key(1)], DAY);
    let long_ago = Timestamp(Timestamp::now().0 - 2 * 86_400_000);
    let token = tokens.issue(SessionId(Uuid::new_v4()), "test1", long_ago);
    assert_eq!(tokens.verify(&token, Timestamp::now()), Err(Refused::Expired));
    let session = SessionId(Uuid::new_v4());
    for (ahead_s, verdict) in [(240, Ok(session)), (360, Err(Refused::Invalid))] {
        let theirs = Timestamp(Timestamp::now().0 + ahead_s * 1_000);
        let token = tokens.issue(session, "test1", theirs);
        assert_eq!(tokens.verify(&token, Timestamp::now()), verdict, "a clock {ahead_s} s ahead");
    }
    let now = Timestamp::now();
    let good = tokens.issue(SessionId(Uuid::new_v4()), "test1", now);
    let claims =
        jsonwebtoken::decode::<serde_json::Value>(&good, &DecodingKey::from_secret(&key(1)), &tokens.validation);
    let (header, claims) = (&tokens.signing.0, claims.unwrap().claims);
    let sign =
        |header: &Header, claims: &serde_json::Value| jsonwebtoken::encode(header, claims, &tokens.signing.1).unwrap();
    assert!(tokens.verify(&sign(header, &claims), now).is_ok());
    for (claim, odd) in [
        ("iat", serde_json::json!(now.seconds() + 600)),
        ("iat", serde_json::json!(-1)),
        ("iat", serde_json::json!(i64::MAX)),
        ("sid", serde_json::json!(claims["sid"].as_str().unwrap().to_uppercase())),
        ("jti", serde_json::json!(claims["jti"].as_str().unwrap().replace('-', ""))),
    ] {
        let mut claims = claims.clone();
        claims[claim] = odd;
        assert_eq!(tokens.verify(&sign(header, &claims), now), Err(Refused::Invalid), "{claims}");
    }
    for (field, value) in [
        ("crit", r#"["exp"]"#),
        ("zip", r#""DEF""#),
        ("cty", r#""JWT""#),
        ("x", "1"),
    ] {
        let mut odd: serde_json::Value = serde_json::to_value(header).unwrap();
        odd[field] = serde_json::from_str(value).unwrap();
        let odd: Header = serde_json::from_value(odd).unwrap();
        assert_eq!(tokens.verify(&sign(&odd, &claims), now), Err(Refused::Invalid), "{field}");
    }
    for garbage in ["", "x", "a.b.c", &"x".repeat(5_000)] {
        assert_eq!(tokens.verify(garbage, Timestamp::now()), Err(Refused::Invalid));
    }
}
