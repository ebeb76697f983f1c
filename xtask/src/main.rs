//! The project's own tasks. `cargo xtask --help` lists them.

mod apt;
mod attacks;
mod bench;
mod build;
mod cli;
mod demo;
mod fuzz;
mod linker;
mod lint;
mod package;
mod packages;
mod paths;
mod process;
mod python;
mod roots;
mod rust_src;
mod setup;
mod suite;
mod test;
mod tools;
mod version;
mod vm;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
