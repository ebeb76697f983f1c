//! System call filters: built from the table, installed, and tried out.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use rustix::thread::SecureComputingMode;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
    SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

use super::error::{IsolateError, Result};
use super::report::{Layer, LayerReport, Status};
use super::system;
pub use table::Profile;
use table::{DENIALS, Denial, NEWEST, Test};

/// Filters ready to be installed.
pub(super) struct Filters {
    programs: Vec<BpfProgram>,
    profile: Profile,
    calls: usize,
}

impl Filters {
    /// Compiles the filters of a profile: one per error number, and one for calls that are newer
    /// than the table.
    pub(super) fn compile(profile: Profile) -> Result<Self> {
        let denials = || DENIALS.iter().filter(|denial| denial.from <= profile);
        let errnos: BTreeSet<i32> = denials().map(|denial| denial.errno).collect();
        let mut programs = vec![newer_than_the_table()];
        for errno in errnos {
            programs.push(compile(
                errno,
                denials().filter(|denial| denial.errno == errno),
            )?);
        }
        let calls: BTreeSet<_> = denials().flat_map(|denial| denial.calls).collect();
        Ok(Self {
            programs,
            profile,
            calls: calls.len(),
        })
    }

    /// Installs the filters for this process and its descendants, and proves that they act.
    /// `no_new_privs` must be set.
    pub(super) fn install(&self) -> Result<LayerReport> {
        let before = PROBES.map(|probe| probe.ask());
        for program in &self.programs {
            seccompiler::apply_filter(program).map_err(|error| cannot("install", &error))?;
        }
        let after = PROBES.map(|probe| probe.ask());
        // A sandbox around this one may deny a call already, but hardly all of them.
        if after != PROBES.map(|probe| probe.denied) || after == before {
            let names = PROBES.map(|probe| probe.name);
            return Err(IsolateError::refused(
                format!(
                    "the system call filter does not hold: {names:?} answered {before:?} before \
                     it and {after:?} with it"
                ),
                "report this with the kernel's version",
            ));
        }
        let mode = rustix::thread::secure_computing_mode();
        if mode != Ok(SecureComputingMode::Filter) {
            return Err(IsolateError::refused(
                format!("the kernel reports seccomp mode {mode:?}"),
                "report this with the kernel's version",
            ));
        }
        Ok(LayerReport::new(
            Layer::Seccomp,
            Status::Enforced,
            format!(
                "profile {:?}: {} filters on {} system calls, later ones than number {NEWEST} and \
                 foreign ABIs; tried: {}",
                self.profile,
                self.programs.len(),
                self.calls,
                PROBES.map(|probe| probe.name).join(", ")
            )
            .to_lowercase(),
        ))
    }
}

/// A call without effect, and its answer with the filters.
struct Probe {
    name: &'static str,
    call: libc::c_long,
    arguments: [libc::c_long; 2],
    denied: i32,
}

impl Probe {
    fn ask(&self) -> i32 {
        system::probe(self.call, self.arguments)
    }
}

/// One for each way of denying: by errno, always or by an argument, and by number.
const PROBES: [Probe; 5] = [
    // Names no namespace: success.
    Probe {
        name: "unshare",
        call: libc::SYS_unshare,
        arguments: [0, 0],
        denied: libc::EPERM,
    },
    // No such operation: EOPNOTSUPP.
    Probe {
        name: "keyctl",
        call: libc::SYS_keyctl,
        arguments: [-1, 0],
        denied: libc::EPERM,
    },
    // No memory and no size: EINVAL.
    Probe {
        name: "clone3",
        call: libc::SYS_clone3,
        arguments: [0, 0],
        denied: libc::ENOSYS,
    },
    // Not a descriptor: EBADF.
    Probe {
        name: "ioctl(TIOCSTI)",
        call: libc::SYS_ioctl,
        arguments: [-1, libc::TIOCSTI.cast_signed()],
        denied: libc::EPERM,
    },
    // `setxattrat` with a size that no version of it has: EINVAL, or ENOSYS before Linux 6.13.
    Probe {
        name: "a newer call",
        call: NEWEST as libc::c_long + 1,
        arguments: [-1, 0],
        denied: libc::ENOSYS,
    },
];

fn cannot(what: &str, error: &dyn std::fmt::Display) -> IsolateError {
    IsolateError::refused(
        format!("cannot {what} the system call filter: {error}"),
        "the kernel needs CONFIG_SECCOMP_FILTER",
    )
}

fn compile<'a>(errno: i32, denials: impl Iterator<Item = &'a Denial>) -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut always: BTreeSet<i64> = BTreeSet::new();
    for denial in denials {
        for &call in denial.calls {
            let entry = rules.entry(call).or_default();
            if denial.when.is_empty() {
                always.insert(call);
            }
            for tests in denial.when {
                entry.push(rule(tests).map_err(|error| cannot("build", &error))?);
            }
        }
    }
    // A call without conditions is denied whatever other rows say about it.
    for call in always {
        rules.insert(call, Vec::new());
    }
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| cannot("build", &error))?;
    let action = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, action, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|error| cannot("build", &error))
}

fn rule(tests: &[Test]) -> std::result::Result<SeccompRule, seccompiler::BackendError> {
    let conditions = tests.iter().map(|test| {
        let (index, compare, value) = match *test {
            Test::Is(index, value) => (index, Compare::Eq, value),
            Test::IsNot(index, value) => (index, Compare::Ne, value),
            Test::Bits { index, mask, value } => (index, Compare::MaskedEq(mask.into()), value),
        };
        SeccompCondition::new(index, Width::Dword, compare, value.into())
    });
    SeccompRule::new(conditions.collect::<std::result::Result<_, _>>()?)
}

/// `if (number > NEWEST) return ENOSYS; return ALLOW;`
///
/// Written out because seccompiler compares call numbers for equality only. The filters beside it
/// check the architecture, and kill a process that calls by another one.
fn newer_than_the_table() -> BpfProgram {
    // Codes of classic BPF, `include/uapi/linux/bpf_common.h`.
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const NUMBER_OFFSET: u32 = 0;
    let instruction = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    vec![
        instruction(LOAD_WORD, 0, NUMBER_OFFSET),
        instruction(JUMP_IF_GREATER, 1, NEWEST),
        instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        instruction(
            RETURN,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_compiles_and_each_denies_more() {
        let calls = [Profile::Permissive, Profile::Default, Profile::Strict]
            .map(|profile| Filters::compile(profile).unwrap().calls);
        assert!(calls.is_sorted_by(|less, more| less < more), "{calls:?}");
    }

    #[test]
    fn no_program_is_longer_than_the_kernel_takes() {
        for program in Filters::compile(Profile::Strict).unwrap().programs {
            assert!(program.len() <= 4096, "{}", program.len());
        }
    }

    #[test]
    fn the_table_holds_no_call_that_is_newer_than_itself() {
        for denial in DENIALS {
            assert!(denial.calls.iter().all(|&call| call <= i64::from(NEWEST)));
        }
    }
}
