//! Paths of the OpenAPI document: merges what the framework repeats, and orders them.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Paths in the order in which their operations should be tried.
pub(super) const PATHS: [&str; 25] = [
    "/user",
    "/user/{public_id}",
    "/auth/login",
    "/chat/{room}/message",
    "/chat/{room}/messagehistory",
    "/chat/{room}/message/{id}/reactions/{emoji}",
    "/chat/{room}/message/{id}/replies",
    "/chat/{room}/message/{id}",
    "/search/messages",
    "/user/events",
    "/user/sync",
    "/chat/{room}/typing",
    "/chat/{room}",
    "/chat",
    "/chat/{room}/users",
    "/chat/{room}/join",
    "/user/rooms",
    "/chat/{room}/read",
    "/chat/{room}/notify",
    "/direct/{username}",
    "/direct",
    "/auth/logout",
    "/info",
    "/health/live",
    "/health/ready",
];

/// Methods of a path in the order in which they should be tried.
const METHODS: [&str; 5] = ["post", "get", "put", "patch", "delete"];

/// The operations by path. The framework repeats a path for each of our modules that serves some of its methods; a
/// plain JSON map would keep the last of them only.
pub(super) struct Paths(Map<String, Value>);

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Merge;

        impl<'de> Visitor<'de> for Merge {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("operations by path")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Paths, A::Error> {
                let mut paths = Map::new();
                while let Some((path, methods)) = map.next_entry::<String, Map<String, Value>>()? {
                    let known = paths.entry(path).or_insert_with(|| Value::Object(Map::new()));
                    known.as_object_mut().into_iter().for_each(|known| known.extend(methods.clone()));
                }
                Ok(Paths(paths))
            }
        }

        deserializer.deserialize_map(Merge)
    }
}

impl Paths {
    /// The operations by path, in the order in which they should be tried.
    pub(super) fn ordered(self) -> Value {
        let mut paths = self.0;
        let mut ordered = Map::new();
        for path in PATHS {
            if let Some(Value::Object(mut methods)) = paths.shift_remove(path) {
                let known = METHODS.iter().filter_map(|method| methods.shift_remove_entry(*method));
                ordered.insert(path.to_owned(), Value::Object(known.collect()));
            }
        }
        ordered.extend(paths);
        Value::Object(ordered)
    }
}
