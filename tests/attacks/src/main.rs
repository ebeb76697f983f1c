//! `attacker STAGE [ATTACK…]` tries attacks one after the other, each in a process of its own, and
//! writes `NAME got` or `NAME WHY`, a line each.

use std::{
    env,
    io::{self, Read, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use skillsandbox_attacks::{Attack, Place, Stage, all};

/// How long an attack may take, on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // What attacks run where they have got so far.
        ["ok", ..] => ExitCode::SUCCESS,
        ["root"] => ExitCode::from(u8::from(is_powerless())),
        ["victim", token, log] => victim(token, log),
        [stage, ref names @ ..] => match serde_json::from_str(stage) {
            Ok(stage) => attack(&stage, names),
            Err(error) => {
                eprintln!("attacker: the stage is not one: {error}");
                ExitCode::FAILURE
            }
        },
        [] => {
            eprintln!("attacker STAGE [ATTACK…]");
            ExitCode::FAILURE
        }
    }
}

/// Whether this process is not root and has no capability.
fn is_powerless() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    // SAFETY: takes nothing.
    let user = unsafe { libc::geteuid() };
    user != 0 && field("CapEff:") == "0000000000000000"
}

fn attack(stage: &Stage, names: &[&str]) -> ExitCode {
    let wanted = |attack: &&Attack| names.is_empty() || names.contains(&attack.name);
    for attack in all().filter(wanted) {
        let outcome = in_time(attack, stage);
        let line = match outcome {
            Ok(()) => format!("{} got\n", attack.name),
            Err(error) => format!("{} {error}\n", attack.name),
        };
        if io::stdout().write_all(line.as_bytes()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Tries an attack in a child, and kills that when it takes too long.
fn in_time(attack: &Attack, stage: &Stage) -> io::Result<()> {
    let (mut answers, answer) = io::pipe()?;
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let place = Place {
            stage,
            name: attack.name,
        };
        let mut answer = answer;
        let text = match (attack.attempt)(&place) {
            Ok(()) => "got".to_owned(),
            Err(error) => error.to_string().replace('\n', " "),
        };
        let _lost = answer.write_all(text.as_bytes());
        // SAFETY: ends this process, whose parent goes on.
        unsafe { libc::_exit(0) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(answer);
    let (started, mut status) = (Instant::now(), 0);
    loop {
        // SAFETY: waits for our own child.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            break;
        }
        if started.elapsed() > PATIENCE {
            // SAFETY: our own child, not reaped yet.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, &raw mut status, 0);
            }
            return Err(io::Error::other("it took too long"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let mut text = String::new();
    answers.read_to_string(&mut text)?;
    match text.as_str() {
        "got" => Ok(()),
        "" => Err(io::Error::other(format!("ended with status {status:#x}"))),
        why => Err(io::Error::other(why.to_owned())),
    }
}

/// Somebody outside: has the token in memory and behind a descriptor, and tells of every signal.
fn victim(token: &str, log: &str) -> ExitCode {
    use std::os::fd::AsRawFd;
    static LOG: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);
    extern "C" fn struck(_: i32) {
        let log = LOG.load(std::sync::atomic::Ordering::Relaxed);
        // SAFETY: `write` may be called by a signal handler.
        unsafe { libc::write(log, c"struck\n".as_ptr().cast(), 7) };
    }
    let prepared = || -> io::Result<_> {
        let log = std::fs::File::options().append(true).open(log)?;
        LOG.store(log.as_raw_fd(), std::sync::atomic::Ordering::Relaxed);
        // SAFETY: the handler calls nothing that handlers may not.
        unsafe { libc::signal(libc::SIGUSR1, struck as *const () as libc::sighandler_t) };
        // SAFETY: a NUL-terminated name.
        let memory = unsafe { libc::memfd_create(c"nameless".as_ptr(), libc::MFD_CLOEXEC) };
        skillsandbox_attacks::call::checked(memory.into())?;
        // SAFETY: the bytes outlive the call.
        let wrote = unsafe { libc::write(memory, token.as_ptr().cast(), token.len()) };
        skillsandbox_attacks::call::checked(wrote as libc::c_long)?;
        Ok((log, memory))
    };
    match prepared() {
        Ok((_log, memory)) => {
            println!("{} {memory}", token.as_ptr() as u64);
            loop {
                thread::sleep(Duration::from_secs(3600));
            }
        }
        Err(error) => {
            eprintln!("victim: {error}");
            ExitCode::FAILURE
        }
    }
}
