//! The table as text, which a person reads and a change of which a person understands. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use steppe_testbed::Outcome;

/// A cell that nobody dialled.
pub const NOT_TRIED: &str = "-";

/// Between two columns.
const GAP: usize = 1;

/// A line: what is dialled, and what came of it for each who dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is dialled, in words.
    pub target: String,
    /// In the order of [`Table::diallers`].
    pub cells: Vec<String>,
}

/// Who reaches what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Who dials: the columns.
    pub diallers: Vec<String>,
    /// What is dialled, by heading: the lines.
    pub parts: Vec<(String, Vec<Line>)>,
}

/// An outcome in one word; `server` is who should have answered.
pub fn cell(outcome: &Outcome, server: &str) -> String {
    match outcome {
        Outcome::Ok(name) if name == server => "ok".to_owned(),
        Outcome::Ok(name) => format!("ok:{name}"),
        Outcome::Timeout => "dropped".to_owned(),
        Outcome::Unreachable => "barred".to_owned(),
        Outcome::Prohibited => "denied".to_owned(),
        // EADDRNOTAVAIL: the dialler has no address of that family.
        Outcome::Error(text) if text.contains("os error 99") => "no-addr".to_owned(),
        // ENODEV.
        Outcome::Error(text) if text.contains("os error 19)") => "no-device".to_owned(),
        other => other.to_string().replace(' ', "_"),
    }
}

impl Table {
    /// The text: a heading, then a line for each target.
    pub fn text(&self) -> String {
        let lines = || self.parts.iter().flat_map(|(_, lines)| lines);
        let first = lines().map(|line| line.target.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = self
            .diallers
            .iter()
            .enumerate()
            .map(|(at, name)| lines().map(|line| line.cells[at].len()).chain([name.len()]).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for (heading, lines) in &self.parts {
            let head = format!("# {heading}");
            row(&mut text, &head, first, &self.diallers, &widths);
            lines.iter().for_each(|line| row(&mut text, &line.target, first, &line.cells, &widths));
            text.push('\n');
        }
        text
    }

    /// Every cell, by who dials what.
    fn cells(&self) -> BTreeMap<(String, String), String> {
        let lines = self.parts.iter().flat_map(|(_, lines)| lines);
        let cells = lines.flat_map(|line| {
            let named = self.diallers.iter().zip(&line.cells);
            named.map(|(dialler, cell)| ((line.target.clone(), dialler.clone()), cell.clone()))
        });
        cells.collect()
    }

    /// Reads [`Table::text`].
    ///
    /// # Errors
    /// With the line that makes no sense.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self { diallers: Vec::new(), parts: Vec::new() };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (target, cells) = line.split_once("  ").ok_or_else(|| format!("no cells: {line}"))?;
            let cells: Vec<String> = cells.split_whitespace().map(str::to_owned).collect();
            if let Some(heading) = target.strip_prefix("# ") {
                table.parts.push((heading.to_owned(), Vec::new()));
                table.diallers = cells;
            } else if cells.len() == table.diallers.len() {
                let part = table.parts.last_mut().ok_or_else(|| format!("no heading above: {line}"))?;
                part.1.push(Line { target: target.to_owned(), cells });
            } else {
                return Err(format!("{} cells for {}: {line}", cells.len(), table.diallers.len()));
            }
        }
        Ok(table)
    }

    /// Each cell that differs from the expected one, a line each; empty when there is none.
    pub fn differences(&self, expected: &Self) -> String {
        let (is, should) = (self.cells(), expected.cells());
        let keys: BTreeSet<_> = is.keys().chain(should.keys()).collect();
        let mut text = String::new();
        for key in keys {
            let [is, should] = [&is, &should].map(|cells| cells.get(key).map_or(NOT_TRIED, String::as_str));
            if is != should {
                let (target, dialler) = key;
                writeln!(text, "{dialler} -> {target}: {is}, expected {should}").ok();
            }
        }
        text
    }
}

fn row(text: &mut String, first: &str, width: usize, cells: &[String], widths: &[usize]) {
    let start = text.len();
    // Two blanks at least end the target, in which there is never more than one.
    write!(text, "{first:width$} ").ok();
    for (cell, width) in cells.iter().zip(widths) {
        write!(text, "{:GAP$}{cell:width$}", "").ok();
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

#[test]
fn a_table_is_read_back_and_what_changed_is_named() {
    let line = |target: &str, cells: [&str; 2]| Line {
        target: target.to_owned(),
        cells: cells.map(str::to_owned).into(),
    };
    let table = Table {
        diallers: vec!["alice".to_owned(), "bob".to_owned()],
        parts: vec![("own addresses".to_owned(), vec![line("tcp web", ["ok", "dropped"])])],
    };
    assert_eq!(Table::parse(&table.text()), Ok(table.clone()));
    let mut other = table.clone();
    assert_eq!(table.differences(&other), "");
    other.parts[0].1[0].cells[1] = "ok".to_owned();
    assert_eq!(other.differences(&table), "bob -> tcp web: ok, expected dropped\n");
    assert!(Table::parse("# x  a b\ny  c").is_err());
}
