//! Writes the manual pages, and what shells need to complete the command line, into a folder: for the package.

use std::{env, fs, io, path::PathBuf};

use clap_complete::Shell;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("name the folder"))?;
    fs::create_dir_all(&folder)?;
    let mut command = skillsandbox::cli::command();
    clap_mangen::generate_to(command.clone(), &folder)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "skillsandbox", &folder)?;
    }
    Ok(())
}
