//! What the examination found, in words and in JSON.

use std::fmt::Write as _;

use serde::Serialize;
use steppe_explain::{Paint, Style, clean};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Steppe works, and something else may not, or not always.
    Warn,
    /// It could not be examined.
    Unknown,
    /// Steppe does not work before this is mended.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What it is about: `kernel`, `docker`, …
    pub(crate) about: &'static str,
    /// What is so.
    pub(crate) says: String,
    /// What to do; there is one for everything but `ok`.
    pub(crate) fix: Option<String>,
}

impl Finding {
    pub(crate) fn ok(about: &'static str, says: impl Into<String>) -> Self {
        Self { level: Level::Ok, about, says: says.into(), fix: None }
    }

    pub(crate) fn warn(about: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warn, about, says: says.into(), fix: Some(fix.into()) }
    }

    pub(crate) fn fail(about: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Fail, about, says: says.into(), fix: Some(fix.into()) }
    }

    pub(crate) fn unknown(about: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Unknown, about, says: says.into(), fix: Some(fix.into()) }
    }
}

/// All findings.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing is in the way.
    ok: bool,
    findings: Vec<Finding>,
}

/// The widest of the subjects, and a blank.
const ABOUT: usize = 11;

impl Report {
    pub(crate) fn new(findings: Vec<Finding>) -> Self {
        let ok = findings.iter().all(|finding| finding.level <= Level::Warn);
        Self { ok, findings }
    }

    /// 0 nothing is in the way, 1 something is, 4 something could not be examined.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.level).max() {
            Some(Level::Fail) => 1,
            Some(Level::Unknown) => 4,
            _ => 0,
        }
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        for Finding { level, about, says, fix } in &self.findings {
            let (word, style) = match level {
                Level::Ok => ("ok  ", Style::Good),
                Level::Warn => ("warn", Style::Doubtful),
                Level::Unknown => ("?   ", Style::Doubtful),
                Level::Fail => ("FAIL", Style::Bad),
            };
            let _ = writeln!(text, "{} {about:ABOUT$}{}", paint.with(style, word), clean(says));
            if let Some(fix) = fix {
                let _ = writeln!(text, "     {:ABOUT$}{}", "fix", paint.with(Style::Advice, &clean(fix)));
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (fails, unknown, warns) = (count(Level::Fail), count(Level::Unknown), count(Level::Warn));
        let _ = match (fails, unknown) {
            (0, 0) => writeln!(text, "nothing is in the way of Steppe here; {warns} to think about"),
            (0, _) => writeln!(text, "{unknown} could not be examined; {warns} to think about"),
            _ => writeln!(text, "{fails} to mend before Steppe works here; {warns} to think about"),
        };
        text
    }
}
