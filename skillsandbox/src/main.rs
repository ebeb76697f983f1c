//! The `skillsandbox` command.

fn main() -> std::process::ExitCode {
    skillsandbox::cli::main()
}
