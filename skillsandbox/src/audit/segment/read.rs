//! Reads one segment: only the groups, pages and columns that can hold what is asked for.

use std::{collections::BTreeSet, fs::File, io};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter,
        },
    },
    file::{
        metadata::{ColumnChunkMetaData, PageIndexPolicy},
        statistics::Statistics,
    },
};

use super::{
    RUNS, RunPart, SegmentError,
    columns::Row,
    condition::{IDS, conditions},
    pages::{self, Piece},
    places::Places,
};
use crate::audit::query::{Filter, Process};

/// Rows that are read at once.
const BATCH: usize = 16 * 1024;

/// A segment that is read.
#[derive(Debug)]
pub struct Segment {
    file: Places,
    metadata: ArrowReaderMetadata,
    runs: Vec<RunPart>,
}

/// A question to a segment.
#[derive(Debug)]
pub struct Search<'s> {
    segment: &'s Segment,
    /// With what is said of each page.
    metadata: ArrowReaderMetadata,
    filter: Filter,
    /// The runs that are wanted; `None` where all are.
    runs: Option<BTreeSet<String>>,
    pieces: Vec<Piece>,
}

/// A record that may be what is asked for: other conditions than those of columns are not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The number of its run in the segment.
    pub part: usize,
    /// The record, as it was written out.
    pub line: &'a [u8],
}

impl Segment {
    /// Reads what this file says of itself.
    pub fn open(file: File) -> Result<Self, SegmentError> {
        let file = Places::of(file)?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
        let said = metadata.metadata().file_metadata().key_value_metadata();
        let runs = said
            .into_iter()
            .flatten()
            .find(|entry| entry.key == RUNS)
            .and_then(|entry| serde_json::from_str(entry.value.as_deref()?).ok());
        Ok(Self {
            file,
            metadata,
            runs: runs.ok_or(SegmentError::NoRuns)?,
        })
    }

    /// The runs in it, in order.
    #[must_use]
    pub fn runs(&self) -> &[RunPart] {
        &self.runs
    }

    /// Looks for where the records of runs that are wanted may be what is asked for, in pieces of
    /// at most so many rows. `None` if they are nowhere.
    pub fn search(
        &self,
        filter: &Filter,
        wanted: &dyn Fn(&RunPart) -> bool,
        most: usize,
    ) -> Result<Option<Search<'_>>, SegmentError> {
        let (first, last) = filter.window();
        let parts = self.runs.iter();
        let runs: BTreeSet<&str> = parts
            .filter(|part| part.last >= first && part.first < last && wanted(part))
            .map(|part| part.about.run.as_str())
            .collect();
        let mut groups = Vec::new();
        if !runs.is_empty() {
            for group in 0..self.metadata.metadata().num_row_groups() {
                if self.may_hold(group, filter)? {
                    groups.push(group);
                }
            }
        }
        if groups.is_empty() {
            return Ok(None);
        }
        // Where all are wanted nobody has to look.
        let runs =
            (runs.len() < self.runs.len()).then(|| runs.into_iter().map(str::to_owned).collect());
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&self.file, options)?;
        let mut pieces = Vec::new();
        for group in groups {
            pieces.extend(pages::pieces(metadata.metadata(), group, filter, most));
        }
        Ok(Some(Search {
            segment: self,
            metadata,
            filter: filter.clone(),
            runs,
            pieces,
        }))
    }

    /// Whether what is said of a group leaves room for what is asked for.
    fn may_hold(&self, group: usize, filter: &Filter) -> Result<bool, SegmentError> {
        let said = self.metadata.metadata().row_group(group);
        let texts = |name: &str| match said.column(self.column(name)?).statistics() {
            Some(Statistics::ByteArray(texts)) => {
                Some((texts.min_bytes_opt()?, texts.max_bytes_opt()?))
            }
            _ => None,
        };
        if let (Some(verdict), Some((least, most))) = (&filter.verdict, texts("verdict"))
            && !(least..=most).contains(&verdict.as_bytes())
        {
            return Ok(false);
        }
        if let Some(Process::Id(id)) = &filter.process
            && let Ok(id) = u32::try_from(*id)
        {
            return self.may_have(group, id);
        }
        Ok(true)
    }

    /// Whether this may be the id of a process or thread in a group.
    fn may_have(&self, group: usize, id: u32) -> Result<bool, SegmentError> {
        let builder = self.reader(self.metadata.clone());
        for name in IDS {
            let Some(column) = self.column(name) else {
                return Ok(true);
            };
            match builder.get_row_group_column_bloom_filter(group, column)? {
                Some(bloom) if !bloom.check(&id.cast_signed()) => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The columns that the lines of a group's records are made of: without those in which no row has a value.
    fn columns_of_lines(&self, group: usize) -> Vec<&str> {
        let said = self.metadata.metadata().row_group(group);
        let rows = u64::try_from(said.num_rows()).unwrap_or(u64::MAX);
        let is_empty = |column: &ColumnChunkMetaData| {
            let nulls = column.statistics().and_then(Statistics::null_count_opt);
            nulls == Some(rows)
        };
        let columns = said.columns().iter();
        columns
            .filter(|column| !is_empty(column))
            .map(|column| column.column_descr().name())
            .filter(|name| !Row::NOT_IN_LINE.contains(name))
            .collect()
    }

    fn reader(&self, metadata: ArrowReaderMetadata) -> ParquetRecordBatchReaderBuilder<Places> {
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), metadata)
    }

    fn column(&self, name: &str) -> Option<usize> {
        let schema = self.metadata.parquet_schema();
        (0..schema.num_columns()).find(|at| schema.column(*at).name() == name)
    }
}

impl Search<'_> {
    /// How many pieces there are to look at, in order.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Hands out the records of a piece that may be what is asked for, in order.
    pub fn each(
        &self,
        piece: usize,
        mut take: impl FnMut(Found<'_>) -> io::Result<()>,
    ) -> Result<(), SegmentError> {
        let (mut part, mut line) = (0, Vec::new());
        let runs = &self.segment.runs;
        let group = self
            .pieces
            .get(piece)
            .ok_or(SegmentError::Row(piece))?
            .group;
        let columns = self.segment.columns_of_lines(group);
        for batch in self.batches(piece, Some(&columns), BATCH)? {
            let batch = batch?;
            for at in 0..batch.num_rows() {
                let row = Row::get(&batch, at);
                let run = row.run.as_deref().ok_or(SegmentError::Row(at))?;
                let is_it = |part: &RunPart| part.about.run == run;
                // Nearly always the same as before.
                if !runs.get(part).is_some_and(is_it) {
                    part = runs.iter().position(is_it).ok_or(SegmentError::Row(at))?;
                }
                line.clear();
                row.line(&mut line).ok_or(SegmentError::Row(at))?;
                take(Found { part, line: &line })?;
            }
        }
        Ok(())
    }

    /// Rows of a piece that may be what is asked for, so many at once, with these columns or all.
    pub(super) fn batches(
        &self,
        piece: usize,
        columns: Option<&[&str]>,
        rows: usize,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>, SegmentError> {
        let piece = self.pieces.get(piece).ok_or(SegmentError::Row(piece))?;
        let schema = self.metadata.parquet_schema();
        let conditions = conditions(&self.filter, self.runs.clone(), piece.is_within);
        let predicates = conditions.into_iter();
        let predicates = predicates.map(|condition| condition.predicate(schema));
        let mask = match columns {
            Some(columns) => ProjectionMask::columns(schema, columns.iter().copied()),
            None => ProjectionMask::all(),
        };
        let reader = self.segment.reader(self.metadata.clone());
        Ok(reader
            .with_row_groups(vec![piece.group])
            .with_row_selection(piece.rows.clone())
            .with_projection(mask)
            .with_row_filter(RowFilter::new(predicates.collect()))
            .with_batch_size(rows)
            .build()?)
    }
}
