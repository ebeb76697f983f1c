//! Writes one segment.

use std::{fs::File, io::Write};

use arrow_schema::SchemaRef;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use serde_json::Value;

use super::{
    RUNS, RunPart, SegmentError,
    columns::{Builders, Row, schema},
    condition::IDS,
};
use crate::audit::{field, record::Record, store::About};

/// Rows that are turned into columns at once.
const BATCH: usize = 32 * 1024;
/// Rows of a group, which has dictionaries of its own: all of a segment.
const GROUP: usize = 1 << 20;
/// Rows of a page, the least that is read. It has statistics of its own.
const PAGE: usize = 8 * 1024;
/// Bytes of a dictionary that is not given up: some ten thousand paths.
const DICTIONARY: usize = 8 << 20;

/// A segment that is written.
pub struct SegmentWriter {
    schema: SchemaRef,
    builders: Builders,
    pending: usize,
    writer: ArrowWriter<Hashing>,
    runs: Vec<RunPart>,
    rows: u64,
}

/// A segment that was written to its end.
#[derive(Debug)]
pub struct Written {
    /// Its file.
    pub file: File,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
    /// Records in it.
    pub rows: u64,
}

impl SegmentWriter {
    /// Writes to this file, which is empty.
    pub fn new(file: File) -> Result<Self, SegmentError> {
        Self::with_pages(file, PAGE)
    }

    /// The same, with so many rows in a page.
    pub(super) fn with_pages(file: File, rows: usize) -> Result<Self, SegmentError> {
        let schema = schema();
        let hashing = Hashing {
            file,
            hasher: blake3::Hasher::new(),
        };
        let writer = ArrowWriter::try_new(hashing, schema.clone(), Some(properties(rows)?))?;
        Ok(Self {
            schema,
            builders: Builders::default(),
            pending: 0,
            writer,
            runs: Vec::new(),
            rows: 0,
        })
    }

    /// Records in it so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds an event of this run.
    pub fn event(&mut self, about: &About, record: &Record<'_>) -> Result<(), SegmentError> {
        let row = Row::of_event(about, record).ok_or(SegmentError::Record)?;
        self.push(about, &row)
    }

    /// Adds a record that was written out, as this line.
    pub fn json(&mut self, about: &About, record: &Value, line: &[u8]) -> Result<(), SegmentError> {
        let row = Row::of_json(about, record, line).ok_or(SegmentError::Record)?;
        self.push(about, &row)?;
        self.lost(field::lost(record));
        Ok(())
    }

    /// Adds a record of userspace's own, as a line of JSON.
    pub fn note(&mut self, about: &About, line: &[u8]) -> Result<(), SegmentError> {
        let row = Row::of_note(about, line).ok_or(SegmentError::Record)?;
        self.push(about, &row)?;
        if row.kind.as_deref() == Some("lost") {
            let note = serde_json::from_slice(line).map_err(std::io::Error::other)?;
            self.lost(field::lost(&note));
        }
        Ok(())
    }

    fn lost(&mut self, lost: u64) {
        if let Some(part) = self.runs.last_mut() {
            part.lost += lost;
        }
    }

    fn push(&mut self, about: &About, row: &Row<'_>) -> Result<(), SegmentError> {
        let time = row.time.ok_or(SegmentError::Record)?;
        self.builders.push(row)?;
        self.pending += 1;
        self.rows += 1;
        match self.runs.last_mut() {
            Some(part) if part.about.run == about.run => {
                part.rows += 1;
                part.first = part.first.min(time);
                part.last = part.last.max(time);
            }
            _ => self.runs.push(RunPart {
                about: About {
                    rules: Vec::new(),
                    ..about.clone()
                },
                rows: 1,
                lost: 0,
                first: time,
                last: time,
            }),
        }
        if self.pending == BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SegmentError> {
        self.pending = 0;
        let batch = self.builders.finish(&self.schema)?;
        Ok(self.writer.write(&batch)?)
    }

    /// Writes the end, and has the disk have all of it.
    pub fn finish(mut self) -> Result<Written, SegmentError> {
        self.flush()?;
        let runs = serde_json::to_string(&self.runs).map_err(std::io::Error::other)?;
        self.writer
            .append_key_value_metadata(KeyValue::new(RUNS.to_owned(), runs));
        let hashing = self.writer.into_inner()?;
        hashing.file.sync_all()?;
        Ok(Written {
            file: hashing.file,
            hash: *hashing.hasher.finalize().as_bytes(),
            rows: self.rows,
        })
    }
}

fn properties(page: usize) -> Result<WriterProperties, SegmentError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(GROUP))
        .set_data_page_row_count_limit(page)
        // How often the rows of a page are counted.
        .set_write_batch_size(page.min(1024))
        .set_dictionary_page_size_limit(DICTIONARY)
        .set_statistics_enabled(EnabledStatistics::Page);
    // Always greater than before, or nearly.
    for column in ["time", "sequence"] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(column), false)
            .set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    // A process is in few groups.
    for column in IDS {
        properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(column), true);
    }
    Ok(properties.build())
}

struct Hashing {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
