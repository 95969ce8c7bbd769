//! Aligned columns.

use steppe_explain::{Paint, Style, clean};

/// A cell, and how it is coloured.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: clean(text.as_ref()), style: None }
    }
}

impl Cell {
    pub(crate) fn styled(text: &str, style: Style) -> Self {
        Self { style: Some(style), ..Self::from(text) }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Rows below a head. A row may have more cells than the head: reasons at its end have no name.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|text| Cell::styled(text, Style::Head)).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text: columns two blanks apart, no blanks at the end of a line.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let lines: Vec<&Vec<Cell>> = std::iter::once(&self.head).chain(&self.rows).collect();
        let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
        let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(Cell::width).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines {
            let last = line.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            for (column, cell) in line.iter().take(last).enumerate() {
                text.push_str(
                    &cell.style.map_or_else(|| cell.text.clone(), |style| paint.with(style, &cell.text)),
                );
                if column + 1 < last {
                    text.push_str(&" ".repeat(widths[column] - cell.width() + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_in_characters_and_whatever_the_colour() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(vec!["ä".into(), "1".into(), "a reason".into()]);
        table.row(vec![Cell::styled("longer\n", Style::Bad), "".into()]);
        assert_eq!(table.render(Paint::Plain), "NAME     N\nä        1  a reason\nlonger \n");
        assert!(table.render(Paint::Colour).contains("\x1b[1mNAME\x1b[0m     "));
    }
}
