//! Text that others wrote, made fit for a message.

use std::{error::Error, io};

/// What a person reads at a glance; a check's whole output can have 4 KiB.
const LINE: usize = 200;

/// The first line that is not blank, without control characters, shortened to 200 characters.
pub(crate) fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut chars = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = chars.by_ref().take(LINE).collect();
    if chars.next().is_some() {
        kept.push('…');
    }
    kept
}

/// Why `whom` gave no answer, in one line. What the system says about a connection says it all; else the causes are
/// listed, as the libraries' own messages often say no more than "client error".
pub(super) fn no_answer(whom: &str, error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>().filter(|error| error.raw_os_error().is_some())
        {
            return first_line(&format!("{whom} can't be reached: {error}"));
        }
        cause = error.source();
    }
    with_causes(error)
}

/// An error with its causes, in one line.
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
    fn what_the_system_says_is_enough() {
        #[derive(Debug, thiserror::Error)]
        #[error("client error")]
        struct Client(#[source] io::Error);
        let refused = Client(io::Error::from_raw_os_error(111));
        let line = no_answer("Consul's agent", &refused);
        assert_eq!(line, "Consul's agent can't be reached: Connection refused (os error 111)");
        let other = Client(io::Error::other("broken off"));
        assert_eq!(no_answer("Consul's agent", &other), "client error: broken off");
    }

    #[test]
    fn a_line_is_short_and_clean() {
        assert_eq!(first_line("\n  HTTP GET: 503\u{1b}[31m  \nbody"), "HTTP GET: 503 [31m");
        assert_eq!(first_line(""), "");
        let long = first_line(&"ä".repeat(10_000));
        assert_eq!(long.chars().count(), LINE + 1);
    }
}
