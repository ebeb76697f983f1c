//! Everything a sandbox holds without eBPF: its cgroup, file tree, environment, user, Landlock
//! rules and system call filters.
//!
//! The supervisor makes a [`Cgroup`](cgroup::Cgroup) and calls [`spawn`](spawn::spawn). That
//! starts this program anew as the launcher, because only a process with one thread may fork and
//! go on. Three processes then do one thing each:
//!
//! ```text
//! supervisor ── launcher ── init (pid 1 of the sandbox) ── skill
//!   makes         makes       makes the file tree,           joins the cgroup, gives
//!   the cgroup    namespaces  reaps, reports the end         everything up, execve
//! ```
//!
//! Init stays outside the cgroup. It ends when the supervisor does, and with it, by the kernel's
//! hand, every process of the sandbox.
//!
//! Every step that fails ends the launch, and every layer reports what it achieved.

pub mod cgroup;
pub mod environment;
pub mod error;
pub mod existing;
pub mod firewall;
pub mod home;
pub mod launch;
pub mod launcher;
pub mod limits;
pub mod met;
pub mod mounts;
pub mod paths;
pub mod privileges;
pub mod program;
pub mod reach;
pub mod report;
pub mod spawn;

mod landlock;
mod seccomp;
mod skill;
mod system;

pub use self::error::IsolateError;
pub use self::landlock::Ports;
pub use self::seccomp::{Description as SystemCalls, Permitted, Profile};
pub(crate) use self::system::run_in_real_time;
