//! The kernel's type information, as far as it tells where a member lies.
//!
//! The format is that of `Documentation/bpf/btf.rst`. The bytes are the kernel's own, and still no
//! length or index in them is trusted.

/// Structures and unions, and what leads to one.
pub(super) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; type number 1 comes first.
    starts: Vec<usize>,
}

const MAGIC: u32 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Kinds that only name or qualify another type: typedef, volatile, const, restrict, type tag.
const TRANSPARENT: [u32; 5] = [8, 9, 10, 11, 18];

/// A type: its kind, how many parts it has, and the type it is about, if any.
#[derive(Clone, Copy)]
struct Type {
    start: usize,
    name: usize,
    kind: u32,
    parts: usize,
    /// Whether offsets of members share their word with the size of a bit field.
    packed: bool,
    about: u32,
}

impl<'a> Btf<'a> {
    /// Finds the types in the content of `/sys/kernel/btf/vmlinux`; `None` if it is none.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if word(bytes, 0)? & 0xffff != MAGIC {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let section = |at: usize| -> Option<&'a [u8]> {
            let start = header.checked_add(word(bytes, at)? as usize)?;
            bytes.get(start..start.checked_add(word(bytes, at + 4)? as usize)?)
        };
        let mut btf = Self {
            types: section(8)?,
            strings: section(16)?,
            starts: Vec::new(),
        };
        let mut start = 0;
        while start < btf.types.len() {
            btf.starts.push(start);
            let found = btf.at(start)?;
            start = start
                .checked_add(12)?
                .checked_add(length_of_parts(found.kind, found.parts)?)?;
        }
        Some(btf)
    }

    /// Offset in bytes of `members`, a path through nested structures such as `d_name.name`.
    pub(super) fn offset_of(&self, structure: &str, members: &str) -> Option<u64> {
        let mut current = self.structure(structure)?;
        let mut bits = 0;
        for name in members.split('.') {
            let (offset, number) = self.member(current, name)?;
            bits += offset;
            if let Some(inner) = self.bare(number) {
                current = inner;
            }
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Whether the kernel has a structure of this name.
    pub(super) fn has(&self, structure: &str) -> bool {
        self.structure(structure).is_some()
    }

    fn structure(&self, name: &str) -> Option<Type> {
        let mut types = self.starts.iter().filter_map(|start| self.at(*start));
        types.find(|found| found.kind == STRUCT && self.string(found.name) == Some(name.as_bytes()))
    }

    /// Offset in bits and type of a member, also of one in an unnamed structure or union inside.
    fn member(&self, structure: Type, wanted: &str) -> Option<(u64, u32)> {
        for part in 0..structure.parts {
            let at = structure.start + 12 + part * 12;
            let (name, number, offset) = (
                word(self.types, at)?,
                word(self.types, at + 4)?,
                word(self.types, at + 8)?,
            );
            let offset = u64::from(if structure.packed {
                offset & 0x00ff_ffff
            } else {
                offset
            });
            let name = self.string(name as usize)?;
            if name == wanted.as_bytes() {
                return Some((offset, number));
            }
            if name.is_empty()
                && let Some(inner) = self.bare(number)
                && let Some((further, number)) = self.member(inner, wanted)
            {
                return Some((offset + further, number));
            }
        }
        None
    }

    /// The structure or union that a type number stands for, past typedefs and qualifiers.
    fn bare(&self, mut number: u32) -> Option<Type> {
        // A chain longer than this is a loop.
        for _ in 0..32 {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            let found = self.at(*self.starts.get(index)?)?;
            if matches!(found.kind, STRUCT | UNION) {
                return Some(found);
            }
            if !TRANSPARENT.contains(&found.kind) {
                return None;
            }
            number = found.about;
        }
        None
    }

    fn at(&self, start: usize) -> Option<Type> {
        let info = word(self.types, start + 4)?;
        Some(Type {
            start,
            name: word(self.types, start)? as usize,
            kind: info >> 24 & 0x1f,
            parts: (info & 0xffff) as usize,
            packed: info >> 31 != 0,
            about: word(self.types, start + 8)?,
        })
    }

    fn string(&self, offset: usize) -> Option<&'a [u8]> {
        self.strings.get(offset..)?.split(|byte| *byte == 0).next()
    }
}

/// Bytes that follow the twelve of a type of this kind; `None` for a kind that came later.
fn length_of_parts(kind: u32, parts: usize) -> Option<usize> {
    Some(match kind {
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Structure, union, data section, 64-bit enumeration.
        STRUCT | UNION | 15 | 19 => parts.checked_mul(12)?,
        // Enumeration, function prototype.
        6 | 13 => parts.checked_mul(8)?,
        // Pointer, forward declaration, the transparent ones, function, float.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmlinux() -> Vec<u8> {
        std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF")
    }

    #[test]
    fn members_of_the_running_kernel_are_found_also_in_unnamed_unions() {
        let bytes = vmlinux();
        let btf = Btf::parse(&bytes).unwrap();
        // `struct list_head { struct list_head *next, *prev; }` is the same on every kernel.
        assert_eq!(btf.offset_of("list_head", "next"), Some(0));
        assert_eq!(btf.offset_of("list_head", "prev"), Some(8));
        // `struct qstr` begins with an unnamed union that holds an unnamed structure.
        assert_eq!(btf.offset_of("qstr", "len"), Some(4));
        assert_eq!(btf.offset_of("qstr", "name"), Some(8));
        assert!(btf.has("task_struct") && !btf.has("no_such_structure"));
        assert_eq!(btf.offset_of("list_head", "no_such_member"), None);
    }

    #[test]
    fn cut_and_changed_bytes_are_refused_or_read_without_a_panic() {
        let bytes = vmlinux();
        for length in [0, 1, 7, 23, 24, 4096, bytes.len() / 2] {
            assert!(Btf::parse(&bytes[..length]).is_none(), "{length}");
        }
        let mut changed = bytes.get(..65_536).unwrap().to_vec();
        for at in 0..200 {
            for value in [0, 0x7f, 0xff] {
                let before = std::mem::replace(&mut changed[at], value);
                if let Some(btf) = Btf::parse(&changed) {
                    let _ = btf.offset_of("list_head", "prev.next");
                }
                changed[at] = before;
            }
        }
    }
}
