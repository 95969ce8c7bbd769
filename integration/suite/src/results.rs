//! Reads what `cargo test` printed.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// `ok`
    Passed,
    /// `FAILED`
    Failed,
    /// `ignored`: it did not run.
    Ignored,
}

/// All tests of a run, by `PROGRAM::TEST`: the program is the crate (with underscores) for unit tests, the
/// test's file or `[[test]]` name for others, and `CRATE::doc` for examples in documentation.
#[derive(Debug, Default)]
pub struct Results {
    /// Each test's ending.
    pub tests: BTreeMap<String, Ending>,
    /// Test programs that began and never summed up: they crashed.
    pub crashed: Vec<String>,
}

impl Results {
    /// Parses the joined stdout and stderr of one or several runs of `cargo test`.
    pub fn parse(log: &str) -> Self {
        let mut results = Self::default();
        let mut program = None::<String>;
        for line in log.lines().map(str::trim) {
            if let Some(next) = program_of(line) {
                results.crashed.extend(program.replace(next));
            } else if line.starts_with("test result:") {
                program = None;
            } else if let (Some(program), Some((name, ending))) = (&program, test_of(line)) {
                results.tests.insert(format!("{program}::{name}"), ending);
            }
        }
        results.crashed.extend(program);
        results
    }

    /// How many tests ended so.
    pub fn count(&self, ending: Ending) -> usize {
        self.tests.values().filter(|&&other| other == ending).count()
    }

    /// The names of the tests that ended so.
    pub fn names(&self, ending: Ending) -> impl Iterator<Item = &str> {
        self.tests.iter().filter(move |(_, other)| **other == ending).map(|(name, _)| name.as_str())
    }
}

/// `Running unittests src/lib.rs (target/debug/deps/steppe_model-0123456789abcdef)` or `Doc-tests steppe_model`.
fn program_of(line: &str) -> Option<String> {
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name}::doc"));
    }
    let path = line.strip_prefix("Running ")?.strip_suffix(')')?.rsplit_once('(')?.1;
    let file = path.rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _hash)| name).to_owned())
}

/// `test NAME ... ENDING`, where NAME may have a remark behind ` - `.
fn test_of(line: &str) -> Option<(&str, Ending)> {
    let (name, ending) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let ending = match ending.split([',', ' ']).next()? {
        "ok" => Ending::Passed,
        "FAILED" => Ending::Failed,
        "ignored" => Ending::Ignored,
        _ => return None,
    };
    Some((name.strip_suffix(" - should panic").unwrap_or(name), ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "
     Running unittests src/lib.rs (target/debug/deps/steppe_model-0123456789abcdef)

running 2 tests
test diff::same ... ok
test diff::broken - should panic ... FAILED
test diff::slow ... ignored, needs a week

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/main.rs (target/debug/deps/suite-fedcba9876543210)
running 1 test
test grants::round_robin ... ok
error: test failed
   Doc-tests steppe_testbed
test integration/testbed/src/lib.rs - (line 10) - compile ... ok
test result: ok. 1 passed; 0 failed
";

    #[test]
    fn names_programs_and_endings_are_read() {
        let results = Results::parse(LOG);
        let names: Vec<_> = results.names(Ending::Passed).collect();
        assert_eq!(
            names,
            [
                "steppe_model::diff::same",
                "steppe_testbed::doc::integration/testbed/src/lib.rs - (line 10) - compile",
                "suite::grants::round_robin"
            ]
        );
        assert_eq!(results.names(Ending::Failed).collect::<Vec<_>>(), ["steppe_model::diff::broken"]);
        assert_eq!(results.count(Ending::Ignored), 1);
        assert_eq!(results.crashed, ["suite"]);
    }
}
