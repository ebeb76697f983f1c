//! Rules on paths.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Decision;
use crate::header::{Reason, Verdict};

/// Longest path a rule can name, in bytes: the data of a longest-prefix-match key is at most
/// 256 bytes (`LPM_DATA_SIZE_MAX`, `kernel/bpf/lpm_trie.c`), and one is the terminator.
pub const RULE_PATH_MAX: usize = 255;

/// Bytes of path that a lookup compares.
pub const PATH_KEY_LEN: usize = RULE_PATH_MAX + 1;

/// Bits of access to a file.
pub struct Access;

impl Access {
    /// Read its content, or list a folder.
    pub const READ: u16 = 1;
    /// Change its content.
    pub const WRITE: u16 = 2;
    /// Execute it as a program.
    pub const EXEC: u16 = 4;
    /// Map it into memory as code.
    pub const MAP: u16 = 8;
    /// Write where programs look for what they execute or obey (`.git/hooks`, `.envrc`). Granted, never asked for: a
    /// write takes it where the path has such a name.
    pub const PERSIST: u16 = 16;
    /// Every access that can be asked for.
    pub const ALL: u16 = Self::READ | Self::WRITE | Self::EXEC | Self::MAP;
}

/// First byte of a key that is not a path's but that of the last components of one, in any folder.
pub const ANYWHERE: u8 = 0;

/// Value of a path prefix: what is granted below it, wider prefixes included, and by which rule.
/// After [`ANYWHERE`]: what is denied there, wherever it lies; only `deny` and `persist` count.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
pub struct FileRule {
    /// Rule that grants reading, or 0.
    pub read: u16,
    /// Rule that grants writing, or 0.
    pub write: u16,
    /// Rule that grants executing, or 0.
    pub exec: u16,
    /// Rule that grants mapping as code, or 0.
    pub map: u16,
    /// Rule that denies everything, or 0. Wins over the grants.
    pub deny: u16,
    /// Rule that denies something inside this very folder, or 0: under another name of the folder
    /// it would deny nothing.
    pub holds: u16,
    /// Rule that grants [`Access::PERSIST`], or 0; after [`ANYWHERE`], the rule that makes it
    /// needed.
    pub persist: u16,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<FileRule>() == 16);

impl FileRule {
    /// What no rule grants.
    pub const NOTHING: Self = Self {
        read: 0,
        write: 0,
        exec: 0,
        map: 0,
        deny: 0,
        holds: 0,
        persist: 0,
        reserved: 0,
    };

    /// Whether the names in a path can refuse an `access` that this rule allows.
    #[must_use]
    #[inline(always)]
    pub const fn asks_names(&self, access: u16) -> bool {
        access & Access::WRITE != 0 && self.write != 0 && self.persist == 0
    }

    /// Decides on `access`, bits of [`Access`]. Every bit asked for must be granted; the rule
    /// named is that of the last one in the order read, write, execute, map.
    #[must_use]
    #[inline(always)]
    pub const fn decide(&self, access: u16) -> Decision {
        if self.deny != 0 {
            return Decision::deny(Reason::DenyRule, self.deny);
        }
        let mut rule = 0;
        if access & Access::READ != 0 {
            if self.read == 0 {
                return Decision::deny(Reason::NotGranted, 0);
            }
            rule = self.read;
        }
        if access & Access::WRITE != 0 {
            if self.write == 0 {
                return Decision::deny(Reason::NotGranted, 0);
            }
            rule = self.write;
        }
        if access & Access::EXEC != 0 {
            if self.exec == 0 {
                return Decision::deny(Reason::NotGranted, 0);
            }
            rule = self.exec;
        }
        if access & Access::MAP != 0 {
            if self.map == 0 {
                return Decision::deny(Reason::NotGranted, 0);
            }
            rule = self.map;
        }
        if rule == 0 {
            // No access that rules know was asked for: nothing grants it.
            return Decision::deny(Reason::NotGranted, 0);
        }
        Decision::allow(rule)
    }

    /// Decides on taking this name from its file: `unlink`, and the old name of a `rename`.
    #[must_use]
    #[inline(always)]
    pub const fn decide_removal(&self) -> Decision {
        let decision = self.decide(Access::WRITE);
        if matches!(decision.verdict, Verdict::Allow) && self.holds != 0 {
            return Decision::deny(Reason::DenyRule, self.holds);
        }
        decision
    }

    /// Decides on giving this name to a file that has, or had, the name of `from`: it must not
    /// come to where more is granted, or what may only be written could be read.
    #[must_use]
    #[inline(always)]
    pub const fn decide_arrival(&self, from: &Self) -> Decision {
        let decision = self.decide_removal();
        if matches!(decision.verdict, Verdict::Deny) {
            return decision;
        }
        // A folder may bring such names with it.
        if from.persist != 0 && self.persist == 0 {
            return Decision::deny(Reason::Persistence, 0);
        }
        if self.read != 0 && from.read == 0
            || from.write == 0
            || self.exec != 0 && from.exec == 0
            || self.map != 0 && from.map == 0
        {
            return Decision::deny(Reason::MoreGranted, 0);
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITABLE: FileRule = FileRule {
        read: 1,
        write: 2,
        ..FileRule::NOTHING
    };

    #[test]
    fn a_name_that_may_be_written_can_be_removed_and_given() {
        assert_eq!(WRITABLE.decide_removal(), Decision::allow(2));
        assert_eq!(WRITABLE.decide_arrival(&WRITABLE), Decision::allow(2));
        let less = FileRule {
            read: 0,
            ..WRITABLE
        };
        assert_eq!(less.decide_arrival(&WRITABLE), Decision::allow(2));
    }

    #[test]
    fn a_name_that_may_only_be_read_or_is_denied_cannot() {
        let only_read = FileRule {
            write: 0,
            ..WRITABLE
        };
        let denied = FileRule {
            deny: 9,
            ..WRITABLE
        };
        for (rule, expected) in [
            (only_read, Decision::deny(Reason::NotGranted, 0)),
            (denied, Decision::deny(Reason::DenyRule, 9)),
        ] {
            assert_eq!(rule.decide_removal(), expected);
            assert_eq!(rule.decide_arrival(&WRITABLE), expected);
        }
    }

    #[test]
    fn a_folder_with_something_denied_in_it_keeps_its_name() {
        let holds = FileRule {
            holds: 7,
            ..WRITABLE
        };
        let expected = Decision::deny(Reason::DenyRule, 7);
        assert_eq!(holds.decide_removal(), expected);
        assert_eq!(holds.decide_arrival(&WRITABLE), expected);
        assert_eq!(holds.decide(Access::WRITE), Decision::allow(2));
    }

    #[test]
    fn no_file_gets_a_name_that_grants_more() {
        let expected = Decision::deny(Reason::MoreGranted, 0);
        let executable = FileRule {
            exec: 3,
            ..WRITABLE
        };
        let mappable = FileRule { map: 3, ..WRITABLE };
        let not_read = FileRule {
            read: 0,
            ..WRITABLE
        };
        let not_written = FileRule {
            write: 0,
            ..WRITABLE
        };
        assert_eq!(executable.decide_arrival(&WRITABLE), expected);
        assert_eq!(mappable.decide_arrival(&WRITABLE), expected);
        assert_eq!(WRITABLE.decide_arrival(&not_read), expected);
        assert_eq!(WRITABLE.decide_arrival(&not_written), expected);
    }

    #[test]
    fn nothing_comes_from_where_names_that_others_obey_are_written_to_where_they_are_not() {
        let persist = FileRule {
            persist: 4,
            ..WRITABLE
        };
        let expected = Decision::deny(Reason::Persistence, 0);
        assert_eq!(WRITABLE.decide_arrival(&persist), expected);
        assert_eq!(persist.decide_arrival(&WRITABLE), Decision::allow(2));
        assert_eq!(persist.decide_arrival(&persist), Decision::allow(2));
    }

    #[test]
    fn only_a_write_that_no_rule_lets_persist_asks_for_names() {
        let persist = FileRule {
            persist: 4,
            ..WRITABLE
        };
        assert!(WRITABLE.asks_names(Access::WRITE | Access::READ));
        assert!(!WRITABLE.asks_names(Access::READ));
        assert!(!persist.asks_names(Access::WRITE));
        assert!(!FileRule::NOTHING.asks_names(Access::WRITE));
    }
}
