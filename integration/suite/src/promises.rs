//! The promises of the documentation, and the tests that show them.

use crate::results::{Ending, Results};
use serde::Deserialize;
use std::path::Path;

/// `integration/promises.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promises {
    /// Each one.
    pub promise: Vec<Promise>,
}

/// One promise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// What is promised, in a sentence.
    pub text: String,
    /// The file in which this very sentence stands, from the repository's root. Without it, `text` is a
    /// promise of the design.
    pub file: Option<String>,
    /// The tests that show it, as [`Results::tests`] names them.
    pub tests: Vec<String>,
}

impl Promise {
    /// Why this run does not show it.
    pub fn broken(&self, results: &Results, root: &Path) -> Option<String> {
        if let Some(file) = &self.file {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            if !words(&text).contains(&words(&self.text)) {
                return Some(format!("{file} doesn't say so (any more)"));
            }
        }
        if self.tests.is_empty() {
            return Some("no test shows it".to_owned());
        }
        self.tests.iter().find_map(|test| match results.tests.get(test) {
            Some(Ending::Passed) => None,
            Some(Ending::Failed) => Some(format!("{test} failed")),
            Some(Ending::Ignored) => Some(format!("{test} was ignored")),
            None => Some(format!("{test} did not run; is that its name?")),
        })
    }
}

/// A text without its line breaks and Markdown's marks, which may differ.
fn words(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !matches!(c, '*' | '`')).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(tests: &[&str]) -> Promise {
        let tests = tests.iter().map(|&test| test.to_owned()).collect();
        Promise { text: "It never rains.".into(), file: None, tests }
    }

    #[test]
    fn a_promise_holds_only_if_all_its_tests_passed() {
        let results = Results::parse(
            "Running x (deps/suite-1)\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored\ntest result: no",
        );
        let broken = |tests: &[&str]| promise(tests).broken(&results, Path::new("/"));
        assert_eq!(broken(&["suite::a"]), None);
        assert_eq!(broken(&[]).as_deref(), Some("no test shows it"));
        assert_eq!(broken(&["suite::a", "suite::b"]).as_deref(), Some("suite::b failed"));
        assert_eq!(broken(&["suite::c"]).as_deref(), Some("suite::c was ignored"));
        assert!(broken(&["suite::d"]).is_some_and(|why| why.contains("did not run")));
    }

    #[test]
    fn a_sentence_must_stand_in_its_file() {
        let results = Results::parse("Running x (deps/suite-1)\ntest a ... ok\ntest result: ok");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sentence = |text: &str| Promise {
            text: text.to_owned(),
            file: Some("src/promises.rs".to_owned()),
            tests: vec!["suite::a".to_owned()],
        };
        assert_eq!(sentence("The promises of the documentation").broken(&results, root), None);
        let absent = ["It", "always", "rains"].join(" ");
        assert!(sentence(&absent).broken(&results, root).is_some());
    }
}
