//! The command line: one file per subcommand.

/// Parses the command line, calls the subcommand, and turns its outcome into an exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
