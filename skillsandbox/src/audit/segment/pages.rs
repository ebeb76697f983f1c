//! What the index of pages leaves room for: parts of a group that are not read at all.

use std::ops::Range;

use parquet::{
    arrow::arrow_reader::RowSelection,
    file::{
        metadata::ParquetMetaData,
        page_index::{column_index::ColumnIndexMetaData, offset_index::PageLocation},
    },
};

use super::condition::IDS;
use crate::audit::query::{Filter, Process};

/// A part of a group that may hold what is asked for.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) group: usize,
    pub(super) rows: RowSelection,
    /// Whether all of it is in the time that is asked for.
    pub(super) is_within: bool,
}

/// The parts of a group that may hold what is asked for, of at most so many rows each.
pub(super) fn pieces(
    metadata: &ParquetMetaData,
    group: usize,
    filter: &Filter,
    most: usize,
) -> Vec<Piece> {
    let pages = Pages::of(metadata, group);
    let mut left = pages.all();
    let mut within = pages.all();
    if filter.since.is_some() || filter.until.is_some() {
        let (first, last) = filter.window();
        let may_be = |least, greatest| least < last && first <= greatest;
        left = left.intersection(&pages.with_number("time", may_be).unwrap_or(pages.all()));
        let is = |least, greatest| first <= least && greatest < last;
        within = pages
            .with_number("time", is)
            .unwrap_or_else(|| pages.none());
    }
    if let Some(verdict) = &filter.verdict {
        let with = pages.with_text("verdict", verdict.as_bytes());
        left = left.intersection(&with.unwrap_or(pages.all()));
    }
    if let Some(Process::Id(id)) = filter.process
        && let Ok(id) = i64::try_from(id)
    {
        let is = |least, most| (least..=most).contains(&id);
        let [one, other] = IDS.map(|name| pages.with_number(name, is).unwrap_or(pages.all()));
        left = left.intersection(&one.union(&other));
    }
    split(ranges(&left), most)
        .into_iter()
        .map(|piece| {
            let rows = RowSelection::from_consecutive_ranges(piece.into_iter(), pages.rows);
            Piece {
                group,
                is_within: rows.intersection(&within).row_count() == rows.row_count(),
                rows,
            }
        })
        .collect()
}

/// Ranges, in pieces of at most so many rows.
fn split(ranges: Vec<Range<usize>>, most: usize) -> Vec<Vec<Range<usize>>> {
    let mut pieces = Vec::new();
    let (mut piece, mut room) = (Vec::new(), most);
    for mut range in ranges {
        while range.len() >= room {
            let end = range.start + room;
            piece.push(range.start..end);
            pieces.push(std::mem::take(&mut piece));
            (range.start, room) = (end, most);
        }
        if !range.is_empty() {
            room -= range.len();
            piece.push(range);
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// The rows that are selected.
fn ranges(selection: &RowSelection) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut ranges = Vec::new();
    for selector in selection.iter() {
        let end = start + selector.row_count;
        if !selector.skip {
            ranges.push(start..end);
        }
        start = end;
    }
    ranges
}

/// What is said of the pages of a group.
struct Pages<'m> {
    metadata: &'m ParquetMetaData,
    group: usize,
    rows: usize,
}

impl<'m> Pages<'m> {
    fn of(metadata: &'m ParquetMetaData, group: usize) -> Self {
        let rows = usize::try_from(metadata.row_group(group).num_rows());
        Self {
            metadata,
            group,
            rows: rows.unwrap_or_default(),
        }
    }

    fn all(&self) -> RowSelection {
        RowSelection::from_consecutive_ranges(std::iter::once(0..self.rows), self.rows)
    }

    fn none(&self) -> RowSelection {
        RowSelection::from_consecutive_ranges(std::iter::empty(), self.rows)
    }

    /// Rows in pages of which this holds for the least and the greatest of their numbers; `None` where nothing is
    /// said of these.
    fn with_number(&self, column: &str, holds: impl Fn(i64, i64) -> bool) -> Option<RowSelection> {
        self.with(column, |index, page| match index {
            ColumnIndexMetaData::INT64(index) => {
                let bounds = index.min_value(page).zip(index.max_value(page));
                bounds.is_some_and(|(least, greatest)| holds(*least, *greatest))
            }
            // Ids, which are written as they are and ordered as they are: none is negative.
            ColumnIndexMetaData::INT32(index) => {
                let bounds = index.min_value(page).zip(index.max_value(page));
                let number = |id: i32| i64::from(id.cast_unsigned());
                bounds.is_some_and(|(least, greatest)| holds(number(*least), number(*greatest)))
            }
            _ => false,
        })
    }

    /// Rows in pages that may have this text.
    fn with_text(&self, column: &str, text: &[u8]) -> Option<RowSelection> {
        self.with(column, |index, page| match index {
            ColumnIndexMetaData::BYTE_ARRAY(index) => {
                let bounds = index.min_value(page).zip(index.max_value(page));
                bounds.is_some_and(|(least, greatest)| (least..=greatest).contains(&text))
            }
            _ => false,
        })
    }

    fn with(
        &self,
        column: &str,
        holds: impl Fn(&ColumnIndexMetaData, usize) -> bool,
    ) -> Option<RowSelection> {
        let (index, pages) = self.index(column)?;
        let starts = starts(pages, self.rows)?;
        let ends = starts.iter().copied().skip(1).chain([self.rows]);
        let ranges = starts
            .iter()
            .copied()
            .zip(ends)
            .enumerate()
            .filter_map(|(page, (start, end))| holds(index, page).then_some(start..end));
        Some(RowSelection::from_consecutive_ranges(ranges, self.rows))
    }

    fn index(&self, name: &str) -> Option<(&'m ColumnIndexMetaData, &'m [PageLocation])> {
        let schema = self.metadata.file_metadata().schema_descr();
        let column = (0..schema.num_columns()).find(|at| schema.column(*at).name() == name)?;
        let index = self.metadata.column_index()?.get(self.group)?.get(column)?;
        let pages = self.metadata.offset_index()?.get(self.group)?.get(column)?;
        let said = match index {
            ColumnIndexMetaData::INT32(index) => index.num_pages(),
            ColumnIndexMetaData::INT64(index) => index.num_pages(),
            ColumnIndexMetaData::BYTE_ARRAY(index) => index.num_pages(),
            _ => return None,
        };
        let pages = pages.page_locations().as_slice();
        (u64::try_from(pages.len()) == Ok(said)).then_some((index, pages))
    }
}

/// The first row of each page; `None` where they cannot be those of pages with all these rows.
fn starts(pages: &[PageLocation], rows: usize) -> Option<Vec<usize>> {
    let starts: Result<Vec<_>, _> = pages
        .iter()
        .map(|page| usize::try_from(page.first_row_index))
        .collect();
    let starts = starts.ok()?;
    let is_rising = starts.is_sorted_by(|one, next| one < next);
    (is_rising && starts.first() == Some(&0) && *starts.last()? < rows).then_some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_do_not_have_each_row_once_are_not_believed() {
        let pages = |starts: &[i64]| {
            let page = |first_row_index: &i64| PageLocation {
                offset: 4,
                compressed_page_size: 1,
                first_row_index: *first_row_index,
            };
            starts.iter().map(page).collect::<Vec<_>>()
        };
        assert_eq!(starts(&pages(&[0, 3, 5]), 6), Some(vec![0, 3, 5]));
        for not_so in [
            &[] as &[i64],
            &[1, 3],
            &[0, 0, 3],
            &[0, 5, 3],
            &[0, -1],
            &[0, 6],
        ] {
            assert_eq!(starts(&pages(not_so), 6), None, "{not_so:?}");
        }
    }
}
