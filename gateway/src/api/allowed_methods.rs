//! Allowed methods of each path, for the header `Allow`.

use std::collections::HashMap;

use poem::http::HeaderValue;
use serde_json::{Map, Value};

/// The method that every path allows: its answer is this very list.
const OPTIONS: &str = "OPTIONS";

/// The methods of a path that can only be read: that of the page and its files.
const READ_ONLY: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// The methods by path template.
pub struct AllowedMethods(HashMap<Vec<String>, HeaderValue>);

impl AllowedMethods {
    /// Reads the methods of every path of the document.
    #[must_use]
    pub fn of(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let paths = document["paths"].as_object().cloned().unwrap_or_default();
        let described = paths.into_iter().filter_map(|(path, methods)| {
            let mut allowed = Vec::new();
            for method in methods.as_object().into_iter().flat_map(Map::keys) {
                allowed.push(method.to_uppercase());
                if method == "get" {
                    allowed.push("HEAD".to_owned());
                }
            }
            allowed.push(OPTIONS.to_owned());
            Some((segments(&path), HeaderValue::try_from(allowed.join(", ")).ok()?))
        });
        Self(described.collect())
    }

    /// The methods of the template that `path` fits.
    #[must_use]
    pub fn allowed_at(&self, path: &str) -> HeaderValue {
        let path = segments(path);
        let fits = |template: &[String]| {
            template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t == p || t.starts_with('{'))
        };
        // A literal segment of a template wins over a parameter.
        let words = |template: &[String]| template.iter().filter(|part| !part.starts_with('{')).count();
        let found = self.0.iter().filter(|(template, _)| fits(template)).max_by_key(|(template, _)| words(template));
        found.map_or(READ_ONLY, |(_, methods)| methods.clone())
    }
}

/// The framework's trait `Type` must not be in scope here: it has an `is_empty` that is always false for `&str`.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_names_the_methods_of_the_template() {
        let methods = AllowedMethods::of(include_str!("../../openapi.json"));
        assert_eq!(methods.allowed_at("/chat/lobby/message/"), "POST, GET, HEAD, DELETE, OPTIONS");
        assert_eq!(methods.allowed_at("/auth/logout"), "POST, OPTIONS");
        assert_eq!(methods.allowed_at("/"), "GET, HEAD, OPTIONS");
    }
}
