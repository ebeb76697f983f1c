//! Which system calls a skill can make under each profile, and what it sees of itself.

use std::{fs, os::unix::process::CommandExt, process::Command};

use serde_json::{Value, json};
use skillsandbox_tests::{manifest::Manifest, sandbox::Run, scene::Scene};

const NOBODY: u32 = 65534;
const PYTHON: &str = "/usr/bin/python3";
const PROFILES: [&str; 3] = ["permissive", "default", "strict"];

/// Makes each call of the list in its first argument and prints what it answered.
const CALLER: &str = r#"
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
answers = []
for number, *arguments in json.loads(sys.argv[1]):
    arguments = [ctypes.c_char_p(a.encode()) if isinstance(a, str) else ctypes.c_long(a) for a in arguments]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    answers.append("ok" if result != -1 else errno.errorcode[ctypes.get_errno()])
print(json.dumps(answers))
"#;

/// A call that does no harm, its answer outside, and under each profile.
struct Sample {
    call: Value,
    outside: &'static str,
    inside: [&'static str; 3],
}

fn samples() -> Vec<Sample> {
    let sample = |call, outside, inside| Sample {
        call,
        outside,
        inside,
    };
    vec![
        // Refused under every profile: always, as if it did not exist, or by an argument.
        sample(json!([libc::SYS_unshare, 0]), "ok", ["EPERM"; 3]),
        sample(json!([libc::SYS_clone3, 0, 0]), "EINVAL", ["ENOSYS"; 3]),
        sample(
            json!([libc::SYS_ioctl, -1, libc::TIOCSTI]),
            "EBADF",
            ["EPERM"; 3],
        ),
        sample(
            json!([libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0]),
            "ok",
            ["EPERM"; 3],
        ),
        // Sockets and options with which a packet goes elsewhere than was decided on.
        sample(
            json!([libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, 0]),
            "EFAULT",
            ["EPERM"; 3],
        ),
        sample(
            json!([libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, 0]),
            "EFAULT",
            ["EFAULT"; 3],
        ),
        sample(
            json!([
                libc::SYS_socket,
                libc::AF_NETLINK,
                libc::SOCK_RAW,
                libc::NETLINK_KOBJECT_UEVENT
            ]),
            "ok",
            ["EPROTONOSUPPORT"; 3],
        ),
        sample(
            json!([
                libc::SYS_setsockopt,
                -1,
                libc::IPPROTO_IP,
                libc::IP_OPTIONS,
                0,
                0
            ]),
            "EBADF",
            ["EPERM"; 3],
        ),
        sample(
            json!([
                libc::SYS_setsockopt,
                -1,
                libc::IPPROTO_IPV6,
                libc::IPV6_2292PKTOPTIONS,
                0,
                0
            ]),
            "EBADF",
            ["EPERM"; 3],
        ),
        sample(
            json!([
                libc::SYS_setsockopt,
                -1,
                libc::IPPROTO_IPV6,
                libc::IPV6_RTHDR,
                0,
                0
            ]),
            "EBADF",
            ["EPERM"; 3],
        ),
        // By the denials of `default`.
        sample(
            json!([libc::SYS_process_vm_readv, 1, 0, 0, 0, 0, 1]),
            "EINVAL",
            ["EINVAL", "EPERM", "EPERM"],
        ),
        sample(
            json!([libc::SYS_personality, libc::ADDR_NO_RANDOMIZE]),
            "ok",
            ["ok", "EPERM", "EPERM"],
        ),
        // On no list.
        sample(
            json!([libc::SYS_remap_file_pages, 0, 0, 0, 0, 0]),
            "EINVAL",
            ["EINVAL", "EPERM", "EPERM"],
        ),
        // On the list of `default` alone.
        sample(
            json!([libc::SYS_memfd_create, "m", 0]),
            "ok",
            ["ok", "ok", "EPERM"],
        ),
        sample(
            json!([libc::SYS_inotify_init1, 0]),
            "ok",
            ["ok", "ok", "EPERM"],
        ),
        // On both.
        sample(json!([libc::SYS_getpid]), "ok", ["ok"; 3]),
    ]
}

fn outside(calls: &str) -> Vec<String> {
    let output = Command::new(PYTHON)
        .args(["-I", "-c", CALLER, calls])
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output()
        .expect("python3 runs");
    serde_json::from_slice(&output.stdout).expect("a list of answers")
}

fn under(profile: &str) -> Manifest {
    Manifest::default()
        .set("/permissions/syscalls", json!({"profile": profile}))
        .exec("/usr/bin")
}

#[test]
fn each_profile_denies_the_calls_that_it_does_not_allow() {
    let scene = Scene::new("profiles");
    let samples = samples();
    let calls: Value = samples.iter().map(|sample| sample.call.clone()).collect();
    let calls = calls.to_string();
    let free: Vec<_> = samples.iter().map(|sample| sample.outside).collect();
    assert_eq!(outside(&calls), free, "before, outside");
    for (index, profile) in PROFILES.into_iter().enumerate() {
        let command = [PYTHON, "-I", "-c", CALLER, &calls];
        let ran = Run::new(&scene, &under(profile), command)
            .end()
            .with_code(0);
        let answers: Vec<String> = serde_json::from_str(&ran.output()).expect("answers");
        let expected: Vec<_> = samples.iter().map(|sample| sample.inside[index]).collect();
        assert_eq!(answers, expected, "{profile}");
    }
    assert_eq!(outside(&calls), free, "after, outside");
}

#[test]
fn ordinary_programs_run_under_every_profile() {
    let scene = Scene::new("ordinary");
    let work = r#"
import asyncio, hashlib, socket, sqlite3, ssl, subprocess, tempfile, threading
numbers = []
threads = [threading.Thread(target=numbers.append, args=(n,)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert sorted(numbers) == list(range(8))
ssl.create_default_context()
assert subprocess.run(["/usr/bin/id", "-u"], capture_output=True, check=True).stdout != b"0\n"
assert asyncio.run(asyncio.sleep(0.01, "slept")) == "slept"
with tempfile.TemporaryDirectory() as folder:
    base = sqlite3.connect(folder + "/base")
    base.execute("create table t (x)")
    base.execute("insert into t values (1)")
    base.commit()
    assert base.execute("select x from t").fetchall() == [(1,)]
    base.close()
socket.socket(socket.AF_INET).close()
print("done")
"#;
    for profile in PROFILES {
        let ran = Run::new(&scene, &under(profile), [PYTHON, "-I", "-c", work]).end();
        assert_eq!(ran.with_code(0).output(), "done\n", "{profile}");
    }
    let script = "cd $TMPDIR && echo one > file && tar -cf - file | tar -tf - && \
                  sort file | grep -c one && bash -c 'echo $((1 + 1))' && ls -l file > /dev/null";
    for profile in PROFILES {
        let ran = Run::shell(&scene, &under(profile), script).end();
        assert_eq!(ran.with_code(0).output(), "file\n1\n2\n", "{profile}");
    }
}

#[test]
fn a_skill_sees_from_inside_that_it_is_confined() {
    let scene = Scene::new("inside");
    let script = "import json, os
def text(path):
    with open(path) as file:
        return file.read()
listing = sorted(map(int, os.listdir('/proc/self/fd')))
processes = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
print(json.dumps({'status': text('/proc/self/status'), 'descriptors': listing,
    'processes': processes, 'self': os.getpid(), 'init': os.path.exists('/proc/1'),
    'mounts': [line.split()[4] for line in text('/proc/self/mountinfo').splitlines()]}))";
    let host_mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    for profile in PROFILES {
        let ran = Run::new(&scene, &under(profile), [PYTHON, "-I", "-c", script]).end();
        let seen: Value = serde_json::from_str(&ran.with_code(0).output()).expect("JSON");
        let status = seen["status"].as_str().expect("a status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {status}")).trim()
        };
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("NoNewPrivs:"), "1");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0".repeat(16), "{set}");
        }
        for ids in ["Uid:", "Gid:"] {
            assert!(field(ids).split('\t').all(|id| id != "0"), "{ids}");
        }
        // The fourth is the listing itself.
        assert_eq!(seen["descriptors"], json!([0, 1, 2, 3]), "{profile}");
        // Itself and nobody else: not the host's processes, nor even the sandbox's own init.
        assert_eq!(seen["processes"], json!([seen["self"]]), "{profile}");
        assert!(fs::exists("/proc/1").is_ok_and(|is_there| is_there));
        assert_eq!(seen["init"], json!(false), "{profile}");
        let mounts = seen["mounts"].as_array().expect("mounts");
        let strange: Vec<_> = mounts.iter().filter(|mount| !is_expected(mount)).collect();
        assert!(strange.is_empty(), "{strange:?}\nthe host's: {host_mounts}");
    }
}

/// Whether the sandbox's tree has a reason to have this mount.
fn is_expected(mount: &Value) -> bool {
    let mount = mount.as_str().unwrap_or_default();
    let below = [
        "/bin",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/sbin",
        "/skill",
        "/home/skill",
        "/tmp",
        "/usr",
    ];
    mount == "/"
        || below.iter().any(|folder| {
            mount
                .strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

#[test]
fn what_each_layer_achieved_is_on_record() {
    let scene = Scene::new("layers");
    for profile in PROFILES {
        let ran = Run::shell(&scene, &under(profile), "true")
            .end()
            .with_code(0);
        assert!(
            ran.trace_text.contains(&format!("profile {profile}: ")),
            "{}",
            ran.trace_text
        );
        assert!(
            ran.trace_text.contains("secure bits 0xef locked"),
            "{}",
            ran.trace_text
        );
    }
}
