//! Writes the archive format that the kernel unpacks as its first file system ("newc", described
//! in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`).

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// An archive under construction.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an empty folder.
    pub(crate) fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, &[]);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, FILE, content);
    }

    /// Adds a file that can be executed.
    pub(crate) fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, content);
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let (owner, group, time, device) = (0, 0, 0, 0);
        let checksum = 0;
        let fields = [
            self.entries,
            mode,
            owner,
            group,
            links,
            time,
            length(content),
            device,
            device,
            device,
            device,
            length(name.as_bytes()) + 1,
            checksum,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents each end at a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("no file of the archive is near 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_header_name_and_content_each_padded_to_four_bytes() {
        let mut archive = Archive::default();
        archive.program("init", b"hello");
        let bytes = archive.finish();

        let header = str::from_utf8(&bytes[..110]).expect("the header is text");
        assert_eq!(&header[..6], "070701");
        assert_eq!(&header[14..22], "000081ED", "mode 0100755");
        assert_eq!(&header[54..62], "00000005", "length of the content");
        assert_eq!(
            &header[94..102],
            "00000005",
            "length of the name and its zero"
        );
        assert_eq!(
            &bytes[110..116],
            b"init\0\0",
            "padded: 110 + 5 is no multiple of four"
        );
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701", "the trailer");
        assert_eq!(bytes.len() % 4, 0);
    }
}
