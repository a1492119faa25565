//! Whether a Redis server keeps what our promises rest on.

use std::collections::HashMap;

use redis::aio::ConnectionManager;
use redis::{InfoDict, RedisResult, cmd};

/// Oldest Redis whose commands suffice (`SET … NX GET` came with 7.0), as major and minor version.
const OLDEST: (u32, u32) = (7, 0);

/// What must be set, to what, and what breaks otherwise.
const NEEDED: [(&str, &str, &str); 3] = [
    ("appendonly", "yes", "acknowledged messages are lost when Redis restarts"),
    ("appendfsync", "always", "acknowledged messages can be lost when Redis is killed"),
    ("maxmemory-policy", "noeviction", "Redis may throw away accepted messages when memory is short"),
];

/// What is wrong with the server, one sentence each; empty if nothing is.
///
/// A server that does not let its settings be read gets one sentence saying so.
pub(super) async fn complaints(connection: &mut ConnectionManager) -> RedisResult<Vec<String>> {
    let server: InfoDict = cmd("INFO").arg("server").query_async(connection).await?;
    let version: String = server.get("redis_version").unwrap_or_default();
    let mut found = Vec::new();
    if is_too_old(&version) {
        found.push(format!("Redis {version} is too old: {}.{} or newer is needed", OLDEST.0, OLDEST.1));
    }
    let mut config = cmd("CONFIG");
    config.arg("GET");
    for (name, ..) in NEEDED {
        config.arg(name);
    }
    let settings: RedisResult<HashMap<String, String>> = config.query_async(connection).await;
    match settings {
        Ok(settings) => found.extend(wrong_settings(&settings)),
        Err(_) => found.push(
            "Redis does not tell its settings: make sure of appendonly yes, appendfsync always and \
             maxmemory-policy noeviction"
                .to_owned(),
        ),
    }
    Ok(found)
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST
}

fn wrong_settings(settings: &HashMap<String, String>) -> Vec<String> {
    let wrong = NEEDED.iter().filter_map(|(name, needed, otherwise)| {
        let is = settings.get(*name).map_or("unknown", String::as_str);
        (is != *needed).then(|| format!("Redis has {name} {is} instead of {needed}: {otherwise}"))
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_breaks_a_promise_is_named() {
        let settings = |fsync: &str, policy: &str| {
            let pairs = [
                ("appendonly", "yes"),
                ("appendfsync", fsync),
                ("maxmemory-policy", policy),
            ];
            wrong_settings(&pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
        };
        assert!(settings("always", "noeviction").is_empty());
        assert_eq!(settings("everysec", "noeviction").len(), 1);
        assert!(settings("everysec", "allkeys-lru")[1].contains("maxmemory-policy allkeys-lru"));
        assert_eq!(wrong_settings(&HashMap::new()).len(), 3);
    }

    #[test]
    fn versions_before_7_are_too_old() {
        for (version, old) in [
            ("6.2.14", true),
            ("7.0.15", false),
            ("8.8.0", false),
            ("10.0.0", false),
            ("", true),
        ] {
            assert_eq!(is_too_old(version), old, "{version}");
        }
    }
}
