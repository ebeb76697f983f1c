//! System call filters: built from the tables, installed, and tried out.

mod allow;
mod call;
mod deny;
mod describe;
mod profile;

use std::collections::{BTreeMap, BTreeSet};

use rustix::thread::SecureComputingMode;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
    SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

use super::error::{IsolateError, Result};
use super::report::{Layer, LayerReport, Status};
use super::system;
use call::Call;
use deny::{DENIALS, Denial, NEWEST, Test};
pub use describe::Description;
pub use profile::{Permitted, Profile};

/// Filters ready to be installed.
pub(super) struct Filters {
    programs: Vec<BpfProgram>,
    profile: Profile,
    /// Calls on the list, none where the profile has no list.
    listed: usize,
    /// Calls with a denial of their own.
    denied: usize,
}

impl Filters {
    /// Compiles the filters of a profile: the list of what is allowed, one filter for calls that
    /// are newer than the tables, and one per error number of the denials.
    pub(super) fn compile(profile: Profile, permitted: Permitted) -> Result<Self> {
        let denials = || {
            DENIALS
                .iter()
                .filter(|denial| denial.holds(profile, permitted))
        };
        let errnos: BTreeSet<i32> = denials().map(|denial| denial.errno).collect();
        let listed: BTreeSet<&Call> = allow::allowed(profile).collect();
        let mut programs = Vec::new();
        // Where filters agree to deny, the kernel answers with the error number of the one that
        // was installed last. So the list, which knows the fewest reasons, comes first.
        if !listed.is_empty() {
            programs.push(only(&listed)?);
        }
        programs.push(newer_than_the_table());
        for errno in errnos {
            programs.push(compile(
                errno,
                denials().filter(|denial| denial.errno == errno),
            )?);
        }
        let denied: BTreeSet<_> = denials().flat_map(|denial| denial.calls).collect();
        Ok(Self {
            programs,
            profile,
            listed: listed.len(),
            denied: denied.len(),
        })
    }

    /// Installs the filters for this process and its descendants, and proves that they act.
    /// `no_new_privs` must be set.
    pub(super) fn install(&self) -> Result<LayerReport> {
        let probes = || PROBES.iter().filter(|probe| probe.from <= self.profile);
        let names: Vec<_> = probes().map(|probe| probe.name).collect();
        let expected: Vec<_> = probes().map(|probe| probe.denied).collect();
        let before: Vec<_> = probes().map(Probe::ask).collect();
        for program in &self.programs {
            seccompiler::apply_filter(program).map_err(|error| cannot("install", &error))?;
        }
        let after: Vec<_> = probes().map(Probe::ask).collect();
        // A sandbox around this one may deny a call already, but hardly all of them.
        if after != expected || after == before {
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
                "profile {}: {} filters; {}; {} calls denied always or by an argument, later ones \
                 than number {NEWEST} and foreign ABIs; tried: {}",
                self.profile.name(),
                self.programs.len(),
                match self.listed {
                    0 => "no list of allowed calls".to_owned(),
                    listed => format!("{listed} calls allowed and no other"),
                },
                self.denied,
                names.join(", ")
            ),
        ))
    }
}

/// A call without effect, and its answer with the filters.
struct Probe {
    /// The mildest profile that denies it.
    from: Profile,
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

/// One for each way of denying: by errno, always or by an argument, by number, and by absence
/// from the list.
const PROBES: [Probe; 6] = [
    // Names no namespace: success.
    Probe {
        from: Profile::Permissive,
        name: "unshare",
        call: libc::SYS_unshare,
        arguments: [0, 0],
        denied: libc::EPERM,
    },
    // No such operation: EOPNOTSUPP.
    Probe {
        from: Profile::Permissive,
        name: "keyctl",
        call: libc::SYS_keyctl,
        arguments: [-1, 0],
        denied: libc::EPERM,
    },
    // No memory and no size: EINVAL.
    Probe {
        from: Profile::Permissive,
        name: "clone3",
        call: libc::SYS_clone3,
        arguments: [0, 0],
        denied: libc::ENOSYS,
    },
    // Not a descriptor: EBADF.
    Probe {
        from: Profile::Permissive,
        name: "ioctl(TIOCSTI)",
        call: libc::SYS_ioctl,
        arguments: [-1, libc::TIOCSTI.cast_signed()],
        denied: libc::EPERM,
    },
    // `setxattrat` with a size that no version of it has: EINVAL, or ENOSYS before Linux 6.13.
    Probe {
        from: Profile::Permissive,
        name: "a newer call",
        call: NEWEST as libc::c_long + 1,
        arguments: [-1, 0],
        denied: libc::ENOSYS,
    },
    // On no list and in no denial. No pages: EINVAL.
    Probe {
        from: Profile::Default,
        name: "remap_file_pages",
        call: libc::SYS_remap_file_pages,
        arguments: [0, 0],
        denied: libc::EPERM,
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
        for &Call { number: call, .. } in denial.calls {
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
    let action = SeccompAction::Errno(errno.unsigned_abs());
    build(rules, SeccompAction::Allow, action)
}

/// Allows these calls and refuses every other. A call is decided by its number alone, so that the
/// kernel need not run the filter for it (the bitmap of Linux 5.11).
fn only(listed: &BTreeSet<&Call>) -> Result<BpfProgram> {
    let rules = listed.iter().map(|call| (call.number, Vec::new()));
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    build(rules.collect(), refuse, SeccompAction::Allow)
}

fn build(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram> {
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| cannot("build", &error))?;
    SeccompFilter::new(rules, otherwise, matched, arch)
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
mod tests;
