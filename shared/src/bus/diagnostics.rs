//! What is wrong with a Redis server, by what it says of itself.

use std::collections::HashMap;

use redis::InfoDict;

/// Oldest Redis whose commands suffice (sharded channels, `SET … NX GET`: 7.0), as major, minor and patch version.
const OLDEST: Version = (7, 0, 0);

/// From here to before there, a client that is evicted while it waits in XREAD can crash the server (CVE-2026-23479).
const EVICTION_CRASHES: (Version, Version) = ((7, 2, 0), (8, 6, 3));

/// What must be set, to what, what breaks otherwise, and the field of INFO that tells it where CONFIG is denied.
pub(super) const REQUIRED: [RequiredSetting; 3] = [
    RequiredSetting {
        setting: "appendonly",
        value: "yes",
        otherwise: "acknowledged messages are lost when Redis restarts",
        info: Some("aof_enabled"),
    },
    RequiredSetting {
        setting: "appendfsync",
        value: "always",
        otherwise: "acknowledged messages can be lost when Redis is killed",
        info: None,
    },
    RequiredSetting {
        setting: "maxmemory-policy",
        value: "noeviction",
        otherwise: "Redis may throw accepted messages away when memory is short",
        info: Some("maxmemory_policy"),
    },
];

type Version = (u32, u32, u32);

pub(super) struct RequiredSetting {
    pub(super) setting: &'static str,
    value: &'static str,
    otherwise: &'static str,
    info: Option<&'static str>,
}

/// What is wrong with a server, in sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Diagnostics {
    /// What breaks a promise.
    pub(super) broken: Vec<String>,
    /// What the operator should know.
    pub(super) doubtful: Vec<String>,
    /// The URL promised another kind of server.
    pub(super) wrong_kind: Option<&'static str>,
}

impl Diagnostics {
    /// Adds those of another server.
    pub(super) fn add(&mut self, other: Self) {
        self.broken.extend(other.broken);
        self.doubtful.extend(other.doubtful);
        self.wrong_kind = self.wrong_kind.or(other.wrong_kind);
    }
}

/// Judges the server `who` by its INFO and those settings that may be read.
pub(super) fn judge(who: &str, info: &InfoDict, settings: &HashMap<String, String>) -> Diagnostics {
    let mut findings = Diagnostics::default();
    let text: String = info.get("redis_version").unwrap_or_default();
    let version = read_version(&text);
    if version < OLDEST {
        let (major, minor, _) = OLDEST;
        findings.broken.push(format!("{who} is version {text}, and {major}.{minor} or newer is needed"));
    }
    for need in REQUIRED {
        let RequiredSetting {
            setting,
            value,
            otherwise,
            ..
        } = need;
        match settings.get(setting).cloned().or_else(|| by_info(info, &need)) {
            Some(is) if is == value => {}
            Some(is) => findings.broken.push(format!("{who} has {setting} {is}, and {value} is needed: {otherwise}")),
            None => findings.doubtful.push(format!(
                "{who} does not tell its {setting}: make sure that it is {value}, otherwise {otherwise}"
            )),
        }
    }
    let evicts = settings.get("maxmemory-clients").is_some_and(|limit| limit != "0");
    if evicts && (EVICTION_CRASHES.0..EVICTION_CRASHES.1).contains(&version) {
        let advice = "set maxmemory-clients 0 or upgrade to 8.6.3";
        findings
            .doubtful
            .push(format!("{who}, version {text}, can crash when it evicts a client: {advice}"));
    }
    findings
}

/// What INFO says of a setting, in the words of CONFIG.
fn by_info(info: &InfoDict, need: &RequiredSetting) -> Option<String> {
    let raw: String = info.get(need.info?)?;
    Some(match raw.as_str() {
        "1" => "yes".to_owned(),
        "0" => "no".to_owned(),
        _ => raw,
    })
}

fn read_version(text: &str) -> Version {
    let mut parts = text.split('.').map_while(|part| part.parse().ok());
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(info: &str, settings: &[(&str, &str)]) -> Diagnostics {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        judge("Redis", &InfoDict::new(info), &settings.collect())
    }

    const GOOD: [(&str, &str); 3] = [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
    ];

    #[test]
    fn each_setting_that_breaks_a_promise_is_named() {
        assert_eq!(findings("redis_version:7.0.15\r\n", &GOOD), Diagnostics::default());
        for (place, value) in [(0, "no"), (1, "everysec"), (2, "allkeys-lru")] {
            let mut settings = GOOD;
            settings[place].1 = value;
            let broken = findings("redis_version:7.0.15\r\n", &settings).broken;
            assert_eq!(broken.len(), 1);
            let expected = format!("Redis has {} {value}, and {} is needed: ", settings[place].0, GOOD[place].1);
            assert!(broken[0].starts_with(&expected), "{broken:?}");
        }
        assert_eq!(findings("redis_version:6.2.14\r\n", &GOOD).broken.len(), 1);
    }

    #[test]
    fn where_settings_are_hidden_info_tells_most_of_them() {
        let hidden = findings("redis_version:8.8.0\r\naof_enabled:0\r\nmaxmemory_policy:noeviction\r\n", &[]);
        assert_eq!((hidden.broken.len(), hidden.doubtful.len()), (1, 1));
        assert!(hidden.broken[0].contains("appendonly no"), "{hidden:?}");
        assert!(hidden.doubtful[0].contains("does not tell its appendfsync"), "{hidden:?}");
        assert_eq!(findings("redis_version:8.8.0\r\n", &[]).doubtful.len(), 3);
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (text, version) in [
            ("6.2.14", (6, 2, 14)),
            ("10.0.0", (10, 0, 0)),
            ("7.0", (7, 0, 0)),
            ("", (0, 0, 0)),
        ] {
            assert_eq!(read_version(text), version);
        }
        let evicting = [GOOD.as_slice(), &[("maxmemory-clients", "5%")]].concat();
        for (text, warned) in [("7.0.15", false), ("7.2.0", true), ("8.6.2", true), ("8.6.3", false)] {
            let found = findings(&format!("redis_version:{text}\r\n"), &evicting);
            assert_eq!(!found.doubtful.is_empty(), warned, "{text}");
        }
    }
}
