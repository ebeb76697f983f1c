//! A skill whose records are made faster than they are kept waits for them, within limits.

use std::{fs, path::Path};

use serde_json::{Value, json};
use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
    store::{audit, kept, on_a_disk, told},
};

const FILE: &str = "/etc/ld.so.cache";
const RING_KIB: u32 = 128;

/// A disk that so many of the writes to a log, once the skill has given a sign, wait for until it is held back, and then so long. When
/// that was, it says beside the sign, in nanoseconds since boot; and then it may end the run. How fast a machine makes records does not
/// matter so.
#[derive(Clone, Copy)]
struct SlowDisk {
    seconds: u32,
    times: u32,
    ends: bool,
}

impl SlowDisk {
    fn functions(self, sign: &Path) -> String {
        const AT_MOST_MS: u32 = 60_000;
        let Self {
            seconds,
            times,
            ends,
        } = self;
        let (sign, ends) = (sign.display(), i32::from(ends));
        format!(
            r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>

static unsigned writes;

static int leads_to(const char *fd, const char *end, char path[4096]) {{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%s", fd);
    ssize_t size = readlink(link, path, 4000), length = strlen(end);
    path[size < 0 ? 0 : size] = 0;
    return size > length && !strcmp(path + size - length, end);
}}

static int is_held(void) {{
    char path[4096], said[256] = "";
    DIR *open_files = opendir("/proc/self/fd");
    for (struct dirent *file; (file = readdir(open_files));) {{
        if (!leads_to(file->d_name, "/cgroup.freeze", path)) continue;
        strcpy(strrchr(path, '/'), "/cgroup.events");
        int events = open(path, O_RDONLY | O_CLOEXEC);
        read(events, said, sizeof said - 1);
        close(events);
        break;
    }}
    closedir(open_files);
    return strstr(said, "frozen 1") != NULL;
}}

static void say_when(void) {{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    int held = open("{sign}.held", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dprintf(held, "%lld", now.tv_sec * 1000000000LL + now.tv_nsec);
    close(held);
}}

ssize_t write(int fd, const void *from, size_t length) {{
    char path[4096], number[16];
    snprintf(number, sizeof number, "%d", fd);
    if (leads_to(number, ".log", path) && !access("{sign}", F_OK) && writes++ < {times}) {{
        for (int waited = 0; waited < {AT_MOST_MS} && !is_held(); waited++) usleep(1000);
        say_when();
        if ({ends}) kill(getpid(), SIGTERM);
        sleep({seconds});
    }}
    return syscall(SYS_write, fd, from, length);
}}
"#
        )
    }
}

/// Has a skill open a file this often, with its records on such a disk and behind a small ring. Answers when it was held as well.
fn run(scene: &Scene, opens: &str, disk: SlowDisk) -> (Ran, u64) {
    let signs = scene.folder("signs");
    let sign = signs.join("begun");
    let script = format!(
        "open('{}', 'w').close()\n\
         {opens}: open('{FILE}').close()",
        sign.display()
    );
    let manifest = Manifest::default()
        .exec("/usr/bin")
        .write(&signs)
        .set("/audit", json!({"ring_kib": RING_KIB}))
        .set("/resources/max_runtime_seconds", json!(600));
    let run = Run::new(scene, &manifest, ["python3", "-c", &script]);
    let mut run = kept(run, &scene.path("audit"));
    on_a_disk(scene, &mut run, &disk.functions(&sign));
    let ran = run.end();
    let held = fs::read_to_string(signs.join("begun.held")).expect("it was waited for");
    (ran, held.parse().expect("a number"))
}

/// The times that a record says that the skill was held back, or went on again in vain.
fn held<'r>(ran: &'r Ran, effect: &'r str) -> impl Iterator<Item = &'r Value> {
    ran.of_kind("limit").filter(move |limit| {
        let said = limit["effect"].as_str().expect("a text");
        limit["resource"] == "audit" && limit["limit"] == RING_KIB && said.contains(effect)
    })
}

#[test]
fn a_skill_waits_for_a_slow_disk_and_nothing_is_lost() {
    let scene = Scene::new("slow");
    let disk = SlowDisk {
        seconds: 1,
        times: 3,
        ends: false,
    };
    let (ran, _) = run(&scene, "for at in range(3000)", disk);
    let ran = ran.with_code(0);
    assert_eq!(
        ran.of_kind("lost").count(),
        0,
        "{:?}",
        ran.of_kind("lost").next()
    );
    let opens = ran.of_kind("open").filter(|open| open["path"] == FILE);
    assert!(opens.count() >= 3000);
    assert!(held(&ran, "held back for its records").count() > 0);
    assert_eq!(held(&ran, "went on").count(), 0);
    let verified = told(&audit(&scene.path("audit"), &["verify"]), 0);
    assert!(
        verified.contains(" 0 lost when they were recorded"),
        "{verified}"
    );
}

#[test]
fn a_skill_goes_on_when_its_disk_does_not_and_what_is_lost_is_counted() {
    let scene = Scene::new("stuck");
    // Five seconds longer than a skill is held for.
    let disk = SlowDisk {
        seconds: 15,
        times: 1,
        ends: false,
    };
    let (ran, _) = run(&scene, "for at in range(3000)", disk);
    let ran = ran.with_code(0);
    let in_vain: Vec<_> = held(&ran, "went on before they were kept").collect();
    assert!(
        matches!(in_vain.as_slice(), [once] if once["count"] == 1),
        "{in_vain:?}"
    );
    assert!(ran.of_kind("lost").count() > 0);
    assert_eq!(ran.of_kind("end").next().expect("an end")["balanced"], true);
}

#[test]
fn a_skill_that_is_ended_while_it_is_held_back_does_nothing_more() {
    let scene = Scene::new("held");
    let disk = SlowDisk {
        seconds: 2,
        times: 1,
        ends: true,
    };
    let (ran, held_at) = run(&scene, "while True", disk);
    let ran = ran.with_code(128 + 15);
    assert!(held(&ran, "held back for its records").count() > 0);
    assert_eq!(ran.of_kind("lost").count(), 0);
    let at = |record: &Value| record["boot_ns"].as_u64().expect("a number");
    let last = ran.of_kind("open").map(at).max().expect("an open");
    assert!(last < held_at, "{} ns later", last - held_at);
}
