//! Diagnoses a Redis server from its INFO and CONFIG: what breaks our promises, and what the operator should know.

use std::collections::HashMap;

use redis::InfoDict;

/// Oldest Redis whose commands suffice (sharded channels, `SET … NX GET`: 7.0), as major, minor and patch version.
const OLDEST: Version = (7, 0, 0);

/// From the first version to before the second, evicting a client that waits in XREAD can crash the server (CVE-2026-23479).
const EVICTION_CRASHES: (Version, Version) = ((7, 2, 0), (8, 6, 3));

/// The settings that our promises rest on.
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

/// A setting, its value, and what breaks without it.
pub(super) struct RequiredSetting {
    pub(super) setting: &'static str,
    value: &'static str,
    otherwise: &'static str,
    /// The field of INFO that gives it where CONFIG is denied.
    info: Option<&'static str>,
}

/// The diagnostics of a server, in sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Diagnostics {
    /// Settings that break a promise.
    pub(super) violations: Vec<String>,
    /// What the operator should know.
    pub(super) warnings: Vec<String>,
    /// The URL promised another kind of server.
    pub(super) wrong_kind: Option<&'static str>,
}

impl Diagnostics {
    /// Adds the diagnostics of another server.
    pub(super) fn merge(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.warnings.extend(other.warnings);
        self.wrong_kind = self.wrong_kind.or(other.wrong_kind);
    }
}

/// Diagnoses the server `who` by its INFO and those settings that may be read.
pub(super) fn diagnose(who: &str, info: &InfoDict, settings: &HashMap<String, String>) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    let text: String = info.get("redis_version").unwrap_or_default();
    let version = parse_version(&text);
    if version < OLDEST {
        let (major, minor, _) = OLDEST;
        diagnostics
            .violations
            .push(format!("{who} is version {text}, and {major}.{minor} or newer is needed"));
    }
    for required in REQUIRED {
        let RequiredSetting {
            setting,
            value,
            otherwise,
            ..
        } = required;
        match settings.get(setting).cloned().or_else(|| from_info(info, &required)) {
            Some(is) if is == value => {}
            Some(is) => {
                diagnostics.violations.push(format!("{who} has {setting} {is}, and {value} is needed: {otherwise}"));
            }
            None => diagnostics.warnings.push(format!(
                "{who} does not tell its {setting}: make sure that it is {value}, otherwise {otherwise}"
            )),
        }
    }
    let evicts = settings.get("maxmemory-clients").is_some_and(|limit| limit != "0");
    if evicts && (EVICTION_CRASHES.0..EVICTION_CRASHES.1).contains(&version) {
        let advice = "set maxmemory-clients 0 or upgrade to 8.6.3";
        diagnostics
            .warnings
            .push(format!("{who}, version {text}, can crash when it evicts a client: {advice}"));
    }
    diagnostics
}

/// A setting by INFO, in the words of CONFIG.
fn from_info(info: &InfoDict, required: &RequiredSetting) -> Option<String> {
    let raw: String = info.get(required.info?)?;
    Some(match raw.as_str() {
        "1" => "yes".to_owned(),
        "0" => "no".to_owned(),
        _ => raw,
    })
}

fn parse_version(text: &str) -> Version {
    let mut parts = text.split('.').map_while(|part| part.parse().ok());
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostics(info: &str, settings: &[(&str, &str)]) -> Diagnostics {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        diagnose("Redis", &InfoDict::new(info), &settings.collect())
    }

    const GOOD: [(&str, &str); 3] = [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
    ];

    #[test]
    fn each_setting_that_breaks_a_promise_is_named() {
        assert_eq!(diagnostics("redis_version:7.0.15\r\n", &GOOD), Diagnostics::default());
        for (index, value) in [(0, "no"), (1, "everysec"), (2, "allkeys-lru")] {
            let mut settings = GOOD;
            settings[index].1 = value;
            let violations = diagnostics("redis_version:7.0.15\r\n", &settings).violations;
            assert_eq!(violations.len(), 1);
            let expected = format!("Redis has {} {value}, and {} is needed: ", settings[index].0, GOOD[index].1);
            assert!(violations[0].starts_with(&expected), "{violations:?}");
        }
        assert_eq!(diagnostics("redis_version:6.2.14\r\n", &GOOD).violations.len(), 1);
    }

    #[test]
    fn hidden_settings_are_taken_from_info_where_possible() {
        let hidden = diagnostics("redis_version:8.8.0\r\naof_enabled:0\r\nmaxmemory_policy:noeviction\r\n", &[]);
        assert_eq!((hidden.violations.len(), hidden.warnings.len()), (1, 1));
        assert!(hidden.violations[0].contains("appendonly no"), "{hidden:?}");
        assert!(hidden.warnings[0].contains("does not tell its appendfsync"), "{hidden:?}");
        assert_eq!(diagnostics("redis_version:8.8.0\r\n", &[]).warnings.len(), 3);
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (text, version) in [
            ("6.2.14", (6, 2, 14)),
            ("10.0.0", (10, 0, 0)),
            ("7.0", (7, 0, 0)),
            ("", (0, 0, 0)),
        ] {
            assert_eq!(parse_version(text), version);
        }
        let evicting = [GOOD.as_slice(), &[("maxmemory-clients", "5%")]].concat();
        for (text, warned) in [("7.0.15", false), ("7.2.0", true), ("8.6.2", true), ("8.6.3", false)] {
            let found = diagnostics(&format!("redis_version:{text}\r\n"), &evicting);
            assert_eq!(!found.warnings.is_empty(), warned, "{text}");
        }
    }
}
