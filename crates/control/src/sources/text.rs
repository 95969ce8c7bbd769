//! Text that others wrote, made fit for a message.

use std::error::Error;

/// What a person reads at a glance; a check's whole output can have 4 KiB.
const LINE: usize = 200;

/// The first line that is not blank, without control characters, shortened to 200 characters.
pub(super) fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut chars = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = chars.by_ref().take(LINE).collect();
    if chars.next().is_some() {
        kept.push('…');
    }
    kept
}

/// An error with its causes, in one line: the libraries' own messages often say no more than "client error".
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    first_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_short_and_clean() {
        assert_eq!(first_line("\n  HTTP GET: 503\u{1b}[31m  \nbody"), "HTTP GET: 503 [31m");
        assert_eq!(first_line(""), "");
        let long = first_line(&"ä".repeat(10_000));
        assert_eq!(long.chars().count(), LINE + 1);
    }
}
