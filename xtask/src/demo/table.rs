//! Plain text in columns.

use std::iter;

const GAP: &str = " | ";

/// A table under construction.
pub(super) struct Table {
    widths: Vec<usize>,
    text: String,
}

impl Table {
    /// A table with columns of these widths.
    pub(super) fn new(widths: &[usize]) -> Self {
        Self {
            widths: widths.to_vec(),
            text: String::new(),
        }
    }

    /// Adds a row and a line below it.
    pub(super) fn row(&mut self, cells: &[String]) {
        let cells: Vec<Vec<String>> = self
            .widths
            .iter()
            .zip(cells)
            .map(|(width, cell)| wrap(cell, *width))
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        for number in 0..height {
            let line = |cell: &Vec<String>| cell.get(number).cloned().unwrap_or_default();
            let lines: Vec<_> = cells.iter().map(line).collect();
            self.line(&lines, GAP);
        }
        let rules: Vec<_> = self.widths.iter().map(|width| "-".repeat(*width)).collect();
        self.line(&rules, "-+-");
    }

    /// The finished table.
    pub(super) fn text(self) -> String {
        self.text
    }

    fn line(&mut self, cells: &[String], gap: &str) {
        let padded: Vec<_> = iter::zip(cells, &self.widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        self.text.push_str(padded.join(gap).trim_end());
        self.text.push('\n');
    }
}

/// Breaks a text into lines of at most `width` characters, between words where that is possible.
/// Line breaks of its own stay.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    text.lines()
        .flat_map(|line| wrap_line(line, width))
        .collect()
}

fn wrap_line(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = width;
    for word in line.split_whitespace() {
        let length = word.chars().count();
        let current = lines.last_mut().expect("there is always a line");
        if !current.is_empty() && length < room {
            current.push(' ');
            current.push_str(word);
            room -= length + 1;
            continue;
        }
        let pieces: Vec<char> = word.chars().collect();
        let pieces = pieces.chunks(width.max(1)).map(String::from_iter);
        if current.is_empty() {
            lines.pop();
        }
        lines.extend(pieces);
        room = width - lines.last().map_or(0, |last| last.chars().count());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_where_they_can() {
        assert_eq!(
            wrap("run curl to post it", 8),
            ["run curl", "to post", "it"]
        );
        assert_eq!(
            wrap("a /very/long/path b", 6),
            ["a", "/very/", "long/p", "ath b"]
        );
        assert_eq!(wrap("first\nsecond one", 20), ["first", "second one"]);
        assert_eq!(wrap("exactly ten", 11), ["exactly ten"]);
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[5, 4]);
        table.row(&["one two".into(), "x".into()]);
        assert_eq!(table.text(), "one   | x\ntwo   |\n------+-----\n");
    }
}
