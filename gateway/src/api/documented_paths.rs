//! The paths of the document: which methods each allows, for the header `Allow`, and what its parameters are called.

use std::collections::HashMap;

use poem::http::HeaderValue;
use serde_json::{Map, Value};

/// The method that every path allows: its answer is this very list.
const OPTIONS: &str = "OPTIONS";

/// The methods of a path that can only be read: that of the page and its files.
const READ_ONLY: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// A path of the document, by its segments: words, and names of parameters in braces.
type Template = Vec<String>;

/// The paths of the document, each with its methods.
pub struct DocumentedPaths(HashMap<Template, HeaderValue>);

impl DocumentedPaths {
    /// Reads every path of the document.
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
        self.find(path).map_or(READ_ONLY, |(_, methods)| methods.clone())
    }

    /// The name of the parameter of `path` that has `index` others before it.
    #[must_use]
    pub fn parameter_at(&self, path: &str, index: usize) -> Option<&str> {
        let (template, _) = self.find(path)?;
        template.iter().filter_map(|part| parameter(part)).nth(index)
    }

    fn find(&self, path: &str) -> Option<(&Template, &HeaderValue)> {
        let path = segments(path);
        let fits = |template: &[String]| {
            template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t == p || parameter(t).is_some())
        };
        // A literal segment of a template wins over a parameter.
        let words = |template: &[String]| template.iter().filter(|part| parameter(part).is_none()).count();
        self.0.iter().filter(|(template, _)| fits(template)).max_by_key(|(template, _)| words(template))
    }
}

/// The name of the parameter that a segment of a template stands for.
fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// The framework's trait `Type` must not be in scope here: it has an `is_empty` that is always false for `&str`.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> DocumentedPaths {
        DocumentedPaths::of(include_str!("../../openapi.json"))
    }

    #[test]
    fn allow_names_the_methods_of_the_template() {
        let paths = paths();
        assert_eq!(paths.allowed_at("/chat/lobby/message/"), "POST, GET, HEAD, DELETE, OPTIONS");
        assert_eq!(paths.allowed_at("/auth/logout"), "POST, OPTIONS");
        assert_eq!(paths.allowed_at("/"), "GET, HEAD, OPTIONS");
    }

    #[test]
    fn parameters_have_the_names_of_the_template() {
        let paths = paths();
        let path = "/chat/lobby/message/%ff/reactions/%ff/";
        let names: Vec<_> = (0..3).map_while(|index| paths.parameter_at(path, index)).collect();
        assert_eq!(names, ["room", "id", "emoji"]);
        assert_eq!(paths.parameter_at("/auth/logout", 0), None);
        assert_eq!(paths.parameter_at("/nowhere", 0), None);
    }
}
