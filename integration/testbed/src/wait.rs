//! Waiting with a deadline: the one place where the testbed lets time pass.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often a condition is looked at again: well under what the tests measure, well above what a look costs.
const POLL: Duration = Duration::from_millis(5);

/// Looks again and again until `look` succeeds, and returns what it found.
///
/// # Panics
/// After `deadline`, with `what` was awaited and the last thing that `look` saw.
#[track_caller]
pub fn eventually<T, E: Display>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        let saw = match look() {
            Ok(found) => return found,
            Err(saw) => saw,
        };
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}; last seen: {saw}");
        std::thread::park_timeout(POLL);
    }
}

/// As [`eventually`], for places that must not panic: none after `deadline`.
pub fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() > deadline {
            return found;
        }
        std::thread::park_timeout(POLL);
    }
}

/// Looks again and again for `duration` that `look` keeps succeeding.
///
/// # Panics
/// As soon as `look` fails, with `what` should have lasted and what was seen.
#[track_caller]
pub fn throughout<E: Display>(duration: Duration, what: &str, mut look: impl FnMut() -> Result<(), E>) {
    let start = Instant::now();
    while start.elapsed() < duration {
        if let Err(saw) = look() {
            panic!("did not last: {what}; after {:?}: {saw}", start.elapsed());
        }
        std::thread::park_timeout(POLL);
    }
}
