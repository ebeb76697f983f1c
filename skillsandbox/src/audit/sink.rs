//! Where records go.

use std::{cell::LazyCell, io};

use super::{counts::Summary, record::Record, said::Said};

/// An event, as a sink takes it.
pub struct Seen<'a> {
    /// The event as the kernel side made it.
    pub bytes: &'a [u8],
    /// What was said of it.
    pub said: &'a Said<'a>,
    /// Its record, which is made for the first who asks.
    pub record: LazyCell<Record<'a>, &'a dyn Fn() -> Record<'a>>,
}

/// Something that takes records: a file, a person's terminal, an exporter.
pub trait Sink: Send {
    /// Takes one record. Records come in order within a batch.
    fn record(&mut self, record: &Record<'_>) -> io::Result<()>;

    /// Takes an event. What has no use for its record does not ask for it.
    fn event(&mut self, event: &Seen<'_>) -> io::Result<()> {
        self.record(&event.record)
    }

    /// A batch is complete: what is buffered goes out now.
    fn end_batch(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The run is over. Called once, after the last record.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;
}
