//! Where records go.

use std::io;

use super::{counts::Summary, record::Record};

/// Something that takes records: a file, a person's terminal, an exporter.
pub trait Sink: Send {
    /// Takes one record. Records come in order within a batch.
    fn record(&mut self, record: &Record<'_>) -> io::Result<()>;

    /// Takes the record of an event, and the event as the kernel side made it.
    fn event(&mut self, _bytes: &[u8], record: &Record<'_>) -> io::Result<()> {
        self.record(record)
    }

    /// A batch is complete: what is buffered goes out now.
    fn end_batch(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The run is over. Called once, after the last record.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;
}
