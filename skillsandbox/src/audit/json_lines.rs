//! JSON Lines: one object per line, as it happens.

use std::io::{self, BufWriter, Write};

use super::{counts::Summary, json, record::Record, sink::Sink};

/// Writes each record as one line. Flushed after every denial and every batch.
#[derive(Debug)]
pub struct JsonLines<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: BufWriter::with_capacity(64 * 1024, out),
        }
    }
}

impl<W: Write + Send> Sink for JsonLines<W> {
    fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        json::write(&mut self.out, record)?;
        self.out.write_all(b"\n")?;
        if record.is_denial() {
            self.out.flush()?;
        }
        Ok(())
    }

    fn end_batch(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, _: &Summary) -> io::Result<()> {
        self.out.flush()
    }
}
