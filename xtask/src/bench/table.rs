//! Tables in Markdown.

use std::fmt::{self, Display, Formatter};

/// Rows below a heading, and notes below the rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Self {
            heading: heading.iter().map(|&cell| cell.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Adds a row; cells that it lacks stay empty.
    pub(super) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.heading.len(), String::new());
        self.rows.push(cells);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | ").replace('\n', " "));
        writeln!(out, "{}", line(&self.heading))?;
        let rules: Vec<_> = (0..self.heading.len())
            .map(|column| if column == 0 { "---" } else { "--:" }.to_owned())
            .collect();
        writeln!(out, "{}", line(&rules))?;
        for row in &self.rows {
            writeln!(out, "{}", line(row))?;
        }
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        Ok(())
    }
}
