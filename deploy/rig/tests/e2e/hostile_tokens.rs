//! Forged, foreign and expired tokens: each is refused with 401 in the one shape of the contract.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rig::ApiClient;
use serde_json::{Value, json};

use crate::fixture::lobby;

/// Every claim a token must have.
const CLAIMS: [&str; 8] = ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "sid"];

/// The parts of a valid token, and the key it was signed with.
struct TokenForge {
    good: String,
    header: Value,
    claims: Value,
    key: Vec<u8>,
}

impl TokenForge {
    fn new(good: &str, key_file: &str) -> Self {
        let parts: Vec<&str> = good.split('.').collect();
        let part = |text: &str| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
        let line = key_file.lines().next().unwrap();
        let key = (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap()).collect();
        Self {
            good: good.to_owned(),
            header: part(parts[0]),
            claims: part(parts[1]),
            key,
        }
    }

    fn header(&self, algorithm: Algorithm) -> Header {
        let mut header: Value = self.header.clone();
        header["alg"] = json!(format!("{algorithm:?}"));
        serde_json::from_value(header).unwrap()
    }

    /// Signed with the gateway's own key.
    fn with_claims(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&self.header(Algorithm::HS256), claims, &EncodingKey::from_secret(&self.key)).unwrap()
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value;
        self.with_claims(&claims)
    }

    /// Signed with the gateway's own key by HS256, whatever the header says.
    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        self.signed(&header)
    }

    fn signed(&self, header: &Value) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let body = format!("{}.{}", encode(header), encode(&self.claims));
        let key = EncodingKey::from_secret(&self.key);
        let signature = jsonwebtoken::crypto::sign(body.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{body}.{signature}")
    }

    fn parts(&self) -> [&str; 3] {
        let mut parts = self.good.split('.');
        [(); 3].map(|()| parts.next().unwrap())
    }

    fn wrong_claims(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for claim in CLAIMS {
            let mut claims = self.claims.clone();
            claims.as_object_mut().unwrap().remove(claim).unwrap();
            tokens.push(self.with_claims(&claims));
            tokens.extend([json!(null), json!({}), json!([]), json!(true)].map(|value| self.with_claim(claim, value)));
        }
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let wrong = [
            ("exp", json!(now - 60)),
            ("exp", json!(0)),
            ("exp", json!(-1)),
            ("exp", json!("tomorrow")),
            ("nbf", json!(now + 600)),
            ("iat", json!(now + 600)),
            ("iat", json!(-1)),
            ("iat", json!(1.5)),
            ("sid", json!(self.claims["sid"].as_str().unwrap().to_uppercase())),
            ("jti", json!(self.claims["jti"].as_str().unwrap().replace('-', ""))),
            ("iss", json!("somebody")),
            ("iss", json!("")),
            ("aud", json!("somebody")),
            ("aud", json!(["somebody", "else"])),
            ("sid", json!("00000000-0000-0000-0000-000000000000")),
            ("sid", json!(uuid::Uuid::new_v4().to_string())),
            ("sid", json!("' OR 1=1 --")),
            ("jti", json!("x")),
        ];
        tokens.extend(wrong.map(|(claim, value)| self.with_claim(claim, value)));
        tokens.extend([json!([]), json!("text"), json!({}), json!(null)].map(|claims| self.with_claims(&claims)));
        tokens
    }

    fn wrong_headers(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for none in ["none", "None", "NONE", "nOnE", ""] {
            let token = self.with_header("alg", json!(none));
            let unsigned = token.rsplit_once('.').unwrap().0.to_owned() + ".";
            tokens.extend([token, unsigned]);
        }
        // Another algorithm, used with the gateway's key or only named.
        for other in [Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(&self.key);
            tokens.push(jsonwebtoken::encode(&self.header(other), &self.claims, &key).unwrap());
        }
        tokens.extend(
            ["HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256", "hs256"]
                .map(|alg| self.with_header("alg", json!(alg))),
        );
        let kids = [
            json!(""),
            json!("other"),
            json!("../../dev/null"),
            json!("' OR 1=1 --"),
            json!(null),
            json!(1),
            json!(["a"]),
        ];
        tokens.extend(kids.map(|kid| self.with_header("kid", kid)));
        tokens.extend([
            self.with_header("crit", json!(["exp"])),
            self.with_header("zip", json!("DEF")),
            self.with_header("jku", json!("http://127.0.0.1/")),
        ]);
        let mut without_kid = self.header.clone();
        without_kid.as_object_mut().unwrap().remove("kid").unwrap();
        tokens.push(self.signed(&without_kid));
        tokens.push(self.signed(&json!({})));
        tokens.push(self.signed(&json!([])));
        tokens
    }

    fn foreign_keys(&self) -> Vec<String> {
        let kid = self.header["kid"].as_str().unwrap_or_default().as_bytes().to_vec();
        let keys = [
            vec![0; 32],
            vec![7; 64],
            b"secret".to_vec(),
            kid,
            self.key[..31].to_vec(),
            self.key.iter().rev().copied().collect(),
        ];
        let header = self.header(Algorithm::HS256);
        keys.map(|key| jsonwebtoken::encode(&header, &self.claims, &EncodingKey::from_secret(&key)).unwrap())
            .to_vec()
    }

    fn mangled(&self) -> Vec<String> {
        let [header, claims, signature] = self.parts();
        let mut tokens: Vec<String> = (0..12).map(|at| format!("{header}.{claims}.{}", flip(signature, at))).collect();
        tokens.extend((4..12).map(|at| format!("{header}.{}.{signature}", flip(claims, at))));
        let other = BASE64_URL_SAFE_NO_PAD.encode(self.claims.to_string().replace("ann", "bob"));
        tokens.extend([
            format!("{header}.{other}.{signature}"),
            format!("{header}.{claims}."),
            format!("{header}.{claims}"),
            format!("{header}..{signature}"),
            format!(".{claims}.{signature}"),
            format!("{header}.{claims}.{signature}."),
            format!("{header}.{claims}.{signature}.{signature}.{signature}"),
            format!("{header}.{claims}.{}", &signature[..20]),
            format!("{header}.{claims}.{signature}{signature}"),
            format!("{header}.{claims}.{}", BASE64_STANDARD.encode([9; 32])),
            format!("{header} .{claims}.{signature}"),
            format!("\"{}\"", self.good),
            format!("{},{}", self.good, self.good),
            format!("{} {}", self.good, self.good),
            format!("Bearer Bearer {}", self.good),
            format!("Basic {}", self.good),
            format!("Token {}", self.good),
            "..".to_owned(),
            ".".to_owned(),
            "x".to_owned(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            "null".to_owned(),
            "undefined".to_owned(),
            "x".repeat(4_097),
            "x".repeat(8_000),
            format!("{header}.{claims}.{signature}{}", "A".repeat(4_096)),
        ]);
        let padding = "x".repeat(4_096);
        tokens.push(self.with_claim("padding", json!(padding)));
        tokens
    }
}

/// Replaces the character at `at` by another one of the alphabet.
fn flip(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

async fn assert_refused(anyone: &ApiClient, token: &str) {
    for header in [token.to_owned(), format!("Bearer {token}")] {
        let client = anyone.with_token(&header);
        let shown: String = header.chars().take(120).collect();
        let response = client.get("/chat/").await.unwrap();
        assert_eq!(response.status(), 401, "{shown}: {response}");
        let problem = response.expect_error_shape().unwrap();
        let code = problem["code"].as_str().unwrap();
        assert!(["unauthorized", "token_expired", "session_revoked"].contains(&code), "{shown}: {response}");
    }
}

#[tokio::test]
async fn hostile_tokens_are_refused() {
    let (stack, ann) = lobby().await;
    let key_file = std::fs::read_to_string(stack.signing_key_file()).unwrap();
    let forge = TokenForge::new(ann.token(), &key_file);
    let anyone = stack.client().unwrap();
    // A token that is signed unchanged is valid, so the others fail because of their changes.
    for same in [forge.with_claims(&forge.claims), forge.signed(&forge.header)] {
        anyone.with_token(&same).get("/chat/").await.unwrap().expect(200).unwrap();
    }

    let tokens = [
        forge.wrong_claims(),
        forge.wrong_headers(),
        forge.foreign_keys(),
        forge.mangled(),
    ]
    .concat();
    assert!(tokens.len() >= 60, "only {}", tokens.len());
    println!("{} hostile tokens", tokens.len());
    for token in &tokens {
        assert_refused(&anyone, token).await;
    }
    // Streams are refused before they begin, and a token in the URL does not count.
    let hostile = anyone.with_token(&tokens[0]);
    hostile.stream("lobby").response().await.unwrap().expect_error(401, "unauthorized").unwrap();
    for name in ["token", "access_token", "authorization", "Authorization"] {
        let response = anyone.get(&format!("/chat/?{name}={}", ann.token())).await.unwrap();
        response.expect_error(401, "unauthorized").unwrap();
    }
    let not_text = anyone.request(rig::Method::GET, "/chat/").header("authorization", &b"\xff\xfe\x80"[..]);
    anyone.send(not_text).await.unwrap().expect_error(401, "unauthorized").unwrap();
    ann.get("/chat/").await.unwrap().expect(200).unwrap();
}
