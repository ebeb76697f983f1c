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
    file::statistics::Statistics,
};

use super::{
    RUNS, RunPart, SegmentError,
    columns::Row,
    condition::{IDS, conditions},
};
use crate::audit::{
    query::{Filter, Process},
    store::About,
};

/// Rows that are read at once.
const BATCH: usize = 16 * 1024;

/// A segment that is read.
pub struct Segment {
    file: File,
    metadata: ArrowReaderMetadata,
    runs: Vec<RunPart>,
}

/// A record that may be what is asked for: other conditions than those of columns are not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// What is known of its run.
    pub about: &'a About,
    /// The record, as it was written out.
    pub line: &'a [u8],
}

impl Segment {
    /// Reads what this file says of itself.
    pub fn open(file: File) -> Result<Self, SegmentError> {
        let options = ArrowReaderOptions::new();
        let metadata = ArrowReaderMetadata::load(&file, options)?;
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

    /// Hands out the records of runs that are wanted and that may be what is asked for, in order.
    pub fn each(
        &self,
        filter: &Filter,
        wanted: &dyn Fn(&RunPart) -> bool,
        mut take: impl FnMut(Found<'_>) -> io::Result<()>,
    ) -> Result<(), SegmentError> {
        let Some(batches) = self.read(filter, wanted, None, BATCH)? else {
            return Ok(());
        };
        let Some(mut part) = self.runs.first() else {
            return Ok(());
        };
        let mut line = Vec::new();
        for batch in batches {
            let batch = batch?;
            for at in 0..batch.num_rows() {
                let row = Row::get(&batch, at);
                let run = row.run.as_deref().ok_or(SegmentError::Row(at))?;
                // Nearly always the same as before.
                if part.about.run != run {
                    let found = self.runs.iter().find(|part| part.about.run == run);
                    part = found.ok_or(SegmentError::Row(at))?;
                }
                line.clear();
                row.line(&mut line).ok_or(SegmentError::Row(at))?;
                take(Found {
                    about: &part.about,
                    line: &line,
                })?;
            }
        }
        Ok(())
    }

    /// Rows that may be what is asked for, so many at once, with these columns or all. `None` if there are none.
    pub(super) fn read(
        &self,
        filter: &Filter,
        wanted: &dyn Fn(&RunPart) -> bool,
        columns: Option<&[&str]>,
        rows: usize,
    ) -> Result<Option<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>>, SegmentError>
    {
        let (first, last) = filter.window();
        let parts = self.runs.iter();
        let runs: BTreeSet<&str> = parts
            .filter(|part| part.last >= first && part.first < last && wanted(part))
            .map(|part| part.about.run.as_str())
            .collect();
        if runs.is_empty() {
            return Ok(None);
        }
        // Where all are wanted, or are in the time that is asked for, nobody has to look.
        let is_within = |part: &RunPart| first <= part.first && part.last < last;
        let whole = Filter {
            since: None,
            until: None,
            ..filter.clone()
        };
        let filter = if self.runs.iter().all(is_within) {
            &whole
        } else {
            filter
        };
        let runs =
            (runs.len() < self.runs.len()).then(|| runs.into_iter().map(str::to_owned).collect());
        let file = self.file.try_clone()?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mut groups = Vec::new();
        for group in 0..self.metadata.metadata().num_row_groups() {
            if self.may_hold(&builder, group, filter)? {
                groups.push(group);
            }
        }
        let schema = self.metadata.parquet_schema();
        let predicates = conditions(filter, runs).into_iter();
        let predicates = predicates.map(|condition| condition.predicate(schema));
        let mask = match columns {
            Some(columns) => ProjectionMask::columns(schema, columns.iter().copied()),
            None => ProjectionMask::all(),
        };
        Ok(Some(
            builder
                .with_row_groups(groups)
                .with_projection(mask)
                .with_row_filter(RowFilter::new(predicates.collect()))
                .with_batch_size(rows)
                .build()?,
        ))
    }

    /// Whether what is said of a group leaves room for what is asked for.
    fn may_hold(
        &self,
        builder: &ParquetRecordBatchReaderBuilder<File>,
        group: usize,
        filter: &Filter,
    ) -> Result<bool, SegmentError> {
        let said = self.metadata.metadata().row_group(group);
        let statistics = |name: &str| said.column(self.column(name)?).statistics();
        if let Some(Statistics::Int64(time)) = statistics("time")
            && let (Some(first), Some(last)) = (time.min_opt(), time.max_opt())
        {
            let window = filter.window();
            if *last < window.0 || *first >= window.1 {
                return Ok(false);
            }
        }
        let texts = |name: &str| match statistics(name) {
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
            return self.may_have(builder, group, id);
        }
        Ok(true)
    }

    /// Whether this may be the id of a process or thread in a group.
    fn may_have(
        &self,
        builder: &ParquetRecordBatchReaderBuilder<File>,
        group: usize,
        id: u32,
    ) -> Result<bool, SegmentError> {
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

    fn column(&self, name: &str) -> Option<usize> {
        let schema = self.metadata.parquet_schema();
        (0..schema.num_columns()).find(|at| schema.column(*at).name() == name)
    }
}
