//! Tables for people and for Markdown.

use std::fmt::{self, Display};

/// Rows under a head; the first column is to the left, the others to the right.
#[derive(Debug)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// One with these columns.
    pub fn new(columns: &[&str]) -> Self {
        Self(vec![columns.iter().map(ToString::to_string).collect()])
    }

    /// One more row; what it lacks stays empty.
    pub fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.0[0].len(), String::new());
        self.0.push(cells);
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0[0].len();
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.0.iter().enumerate() {
            write!(f, "| {:<1$} |", row[0], widths[0])?;
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(f, " {cell:>width$} |")?;
            }
            writeln!(f)?;
            if number == 0 {
                write!(f, "| {} |", "-".repeat(widths[0]))?;
                widths
                    .iter()
                    .skip(1)
                    .try_for_each(|width| write!(f, " {}: |", "-".repeat(width.saturating_sub(1))))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A number with the digits that matter: three.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let mut table = Table::new(&["who", "q/s"]);
        table.row(vec!["us".into(), number(1234.5)]);
        table.row(vec!["them".into()]);
        assert_eq!(table.to_string(), "| who  |  q/s |\n| ---- | ---: |\n| us   | 1234 |\n| them |      |\n");
    }
}
