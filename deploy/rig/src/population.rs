//! Many users in many rooms, written into the database past the gateways.
//!
//! By calls, ten thousand users would cost the hashing of as many passwords, and half a million memberships as many transactions and
//! entries of logs. These users have a session and a token each, and no password; the logs of their rooms are empty.

use std::fs;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::database::Table;
use crate::failure::{Explain as _, Failure, Result};
use crate::stack::Stack;

/// The first id of a user, and of a room: far above those that the gateways give.
const FIRST_ID: usize = 1_000_000;

/// Users who are in rooms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population {
    /// The rooms by name. The first user owns them.
    pub rooms: Vec<String>,
    /// The users by name, each with the numbers of the rooms that they are in.
    pub users: Vec<(String, Vec<usize>)>,
}

impl Stack {
    /// Adds `population`, whose names must be new, and returns the tokens of its users. The gateways must be started anew before
    /// they are asked for a room of it: they may remember that there was none.
    pub async fn populate(&self, population: &Population) -> Result<Vec<String>> {
        let token = self.client()?.register("populates").await?.token().to_owned();
        let forge = TokenForge::new(&token, &fs::read_to_string(self.signing_key_file())?)?;
        let sessions: Vec<Uuid> = population.users.iter().map(|_| Uuid::new_v4()).collect();
        let mut database = self.database().await?;
        database.insert(Table::Users, &population.user_rows()).await?;
        database.insert(Table::Sessions, &session_rows(&sessions, forge.expires_on()?)).await?;
        database.insert(Table::Rooms, &population.room_rows()).await?;
        database.insert(Table::Members, &population.member_rows()).await?;
        database.close().await?;
        let users = population.users.iter().zip(&sessions);
        users.map(|((name, _), session)| forge.token(name, *session)).collect()
    }
}

impl Population {
    fn user_rows(&self) -> Vec<Value> {
        let users = self.users.iter().enumerate();
        users.map(|(number, (name, _))| json!([FIRST_ID + number, name])).collect()
    }

    fn room_rows(&self) -> Vec<Value> {
        let rooms = self.rooms.iter().enumerate();
        rooms.map(|(number, name)| json!([FIRST_ID + number, name, FIRST_ID])).collect()
    }

    fn member_rows(&self) -> Vec<Value> {
        let (rooms, users) = (self.rooms.len(), self.users.iter().enumerate());
        let memberships = users.flat_map(|(user, (_, of_user))| of_user.iter().map(move |room| (*room, user)));
        let row = |(room, user): (usize, usize)| json!([FIRST_ID + room, FIRST_ID + user, 1 + user * rooms + room]);
        memberships.map(row).collect()
    }
}

/// The sessions of the users in their order, which end at `expires_on`, in milliseconds.
fn session_rows(sessions: &[Uuid], expires_on: i64) -> Vec<Value> {
    let sessions = sessions.iter().enumerate();
    let row = |(user, session): (usize, &Uuid)| json!([session.simple().to_string(), FIRST_ID + user, expires_on]);
    sessions.map(row).collect()
}

/// Makes tokens like one that a gateway has issued.
struct TokenForge {
    header: Header,
    claims: Value,
    key: EncodingKey,
}

impl TokenForge {
    /// From a token and the file of the keys that it was signed with.
    fn new(token: &str, key_file: &str) -> Result<Self> {
        let key = key_file.lines().next().and_then(decode_hex);
        let key = key.ok_or_else(|| Failure::new("the key file does not begin with a hexadecimal key"))?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_aud = false;
        let decoded = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(&key), &validation);
        let decoded = decoded.explain(|| "the token of a gateway is not signed with its key".to_owned())?;
        Ok(Self {
            header: decoded.header,
            claims: decoded.claims,
            key: EncodingKey::from_secret(&key),
        })
    }

    /// When its tokens end, in milliseconds since 1970.
    fn expires_on(&self) -> Result<i64> {
        let seconds = self.claims["exp"].as_i64();
        seconds.map(|seconds| seconds * 1_000).ok_or_else(|| Failure::new("a token without an end"))
    }

    /// The token of `session` of a user.
    fn token(&self, public_id: &str, session: Uuid) -> Result<String> {
        let mut claims = self.claims.clone();
        claims["sub"] = json!(public_id);
        claims["sid"] = json!(session);
        claims["jti"] = json!(Uuid::new_v4());
        jsonwebtoken::encode(&self.header, &claims, &self.key).explain(|| "no token".to_owned())
    }
}

/// The bytes that hexadecimal digits stand for.
fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
    (0..digits.len() / 2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

    #[test]
    fn forged_token_differs_in_user_and_session_alone() {
        let key = EncodingKey::from_secret(&decode_hex(KEY.trim()).unwrap());
        let session = Uuid::from_u128(7);
        let claims =
            json!({"iss": "roomcast", "aud": "roomcast", "sub": "ann", "exp": 4_000_000_000_u64, "sid": session});
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        let forge = TokenForge::new(&token, KEY).unwrap();
        assert_eq!(forge.expires_on().unwrap(), 4_000_000_000_000);
        let other = Uuid::from_u128(8);
        let forged = TokenForge::new(&forge.token("bob", other).unwrap(), KEY).unwrap();
        assert_eq!((&forged.claims["sub"], &forged.claims["sid"]), (&json!("bob"), &json!(other)));
        assert_eq!((&forged.claims["iss"], &forged.claims["exp"]), (&claims["iss"], &claims["exp"]));
        assert!(TokenForge::new(&token, &KEY.replace("00", "01")).is_err());
        assert!(TokenForge::new(&token, "no key").is_err());
    }

    #[test]
    fn each_membership_is_a_row_with_an_identity_of_its_own() {
        let population = Population {
            rooms: ["one", "two"].map(str::to_owned).into(),
            users: vec![("ann".to_owned(), vec![0, 1]), ("bob".to_owned(), vec![1])],
        };
        let rows = population.member_rows();
        let first = FIRST_ID;
        let expected = [
            json!([first, first, 1]),
            json!([first + 1, first, 2]),
            json!([first + 1, first + 1, 4]),
        ];
        assert_eq!(rows, expected);
        assert_eq!(population.room_rows()[1], json!([first + 1, "two", first]));
        assert_eq!(population.user_rows()[1], json!([first + 1, "bob"]));
    }
}
