//! An explanation in words.

use std::fmt::Write as _;

use crate::{Explanation, State, Verdict, text::clean};

/// What a piece of text says, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it should be.
    Good,
    /// Broken or refused.
    Bad,
    /// Not known, or on the way.
    Doubtful,
    /// What to do.
    Advice,
    /// The head of a table.
    Head,
}

/// Whether text is coloured (ECMA-48 SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// It is not.
    Plain,
    /// It is.
    Colour,
}

impl Paint {
    /// The text, in its colour.
    #[must_use]
    pub fn with(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => 32,
            Style::Bad => 31,
            Style::Doubtful => 33,
            Style::Advice | Style::Head => 1,
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// The explanation as `steppe explain` prints it, with a line feed at its end.
#[must_use]
pub fn render(explanation: &Explanation, paint: Paint) -> String {
    let (word, style) = match explanation.verdict {
        Verdict::Yes => ("YES", Style::Good),
        Verdict::Refused | Verdict::Broken => ("NO", Style::Bad),
        Verdict::Usage | Verdict::Unknown => ("?", Style::Doubtful),
    };
    let mut text = paint.with(style, word);
    let Explanation { workload, service, reason, .. } = explanation;
    let _ = write!(text, "{}{} -> {}", " ".repeat(4 - word.len()), clean(workload), clean(service));
    if let Some(reason) = reason {
        let lead = if explanation.verdict == Verdict::Unknown { "can't tell: " } else { "" };
        let _ = write!(text, ": {lead}{}", clean(reason));
    }
    text.push('\n');
    let width = explanation.links.iter().map(|link| link.name.len()).max().unwrap_or(0).max(8);
    for link in &explanation.links {
        let (word, style) = match link.state {
            State::Ok => ("ok", Style::Good),
            State::Watched(_) => ("warn", Style::Doubtful),
            State::Refused(_) | State::Broken(_) => ("FAIL", Style::Bad),
            State::Unknown(_) => ("?", Style::Doubtful),
        };
        let gap = " ".repeat(4 - word.len());
        let _ =
            writeln!(text, " {}{gap}  {:width$}  {}", paint.with(style, word), link.name, long(&link.text));
        if let Some(fault) = link.fault() {
            let _ =
                writeln!(text, " {}   {:width$}  {}", paint.with(Style::Advice, "fix"), "", long(&fault.fix));
        }
    }
    text
}

/// A list of many endpoints is longer than a name may be.
fn long(text: &str) -> String {
    text.split(" | ").map(clean).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests;
