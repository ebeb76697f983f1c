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
/// Of which half lasts until the last process has stopped, also where a processor is given to others meanwhile.
const LARGE_RING_KIB: u32 = 1024;

/// What a slow disk does when the skill is held back.
#[derive(Clone, Copy)]
enum Then {
    /// It goes on after so many seconds.
    GoOn(u32),
    /// It ends the run, and goes on when nothing runs any more.
    EndTheRun,
    /// It goes on when nothing runs any more.
    WaitForTheEnd,
}

/// A disk that so many of the writes to a log, once the skill has given a sign, wait for until it is held back. When that was is said
/// beside the sign, in nanoseconds since boot. How fast a machine makes records matters little so.
fn slow_disk(sign: &Path, times: u32, then: Then) -> String {
    const AT_MOST_MS: u32 = 60_000;
    let sign = sign.display();
    let (seconds, signal, waits) = match then {
        Then::GoOn(seconds) => (seconds, 0, 0),
        Then::EndTheRun => (0, libc::SIGTERM, 1),
        Then::WaitForTheEnd => (0, 0, 1),
    };
    format!(
        r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>

#define ENDED "populated 0"

static unsigned writes;

static int leads_to(const char *fd, const char *end, char path[4096]) {{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%s", fd);
    ssize_t size = readlink(link, path, 4000), length = strlen(end);
    path[size < 0 ? 0 : size] = 0;
    return size > length && !strcmp(path + size - length, end);
}}

static int events = -1;

static int is_so(const char *what) {{
    char path[4096], said[256] = "";
    DIR *open_files = events < 0 ? opendir("/proc/self/fd") : NULL;
    for (struct dirent *file; open_files && (file = readdir(open_files));) {{
        if (!leads_to(file->d_name, "/cgroup.freeze", path)) continue;
        strcpy(strrchr(path, '/'), "/cgroup.events");
        events = open(path, O_RDONLY | O_CLOEXEC);
        break;
    }}
    if (open_files) closedir(open_files);
    // Of a cgroup that is gone there is nothing to read.
    if (pread(events, said, sizeof said - 1, 0) < 0 && errno == ENODEV) return !strcmp(what, ENDED);
    return strstr(said, what) != NULL;
}}

static int wait_until(const char *what) {{
    for (int waited = 0; waited < {AT_MOST_MS}; waited++) {{
        if (is_so(what)) return 1;
        if (is_so(ENDED)) return 0;
        usleep(1000);
    }}
    return 0;
}}

static void say_now(const char *where) {{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    int file = open(where, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dprintf(file, "%lld", now.tv_sec * 1000000000LL + now.tv_nsec);
    close(file);
}}

ssize_t write(int fd, const void *from, size_t length) {{
    char path[4096], number[16];
    snprintf(number, sizeof number, "%d", fd);
    if (leads_to(number, ".log", path) && !access("{sign}", F_OK) && writes++ < {times}) {{
        if (wait_until("frozen 1")) say_now("{sign}.held");
        if ({signal}) kill(getpid(), {signal});
        if ({waits} && wait_until(ENDED)) say_now("{sign}.ended");
        sleep({seconds});
    }}
    return syscall(SYS_write, fd, from, length);
}}
"#
    )
}

/// Has a skill open a file this often, behind a ring of this size and with its records on such a disk.
fn run(scene: &Scene, opens: &str, seconds: u64, ring_kib: u32, (times, then): (u32, Then)) -> Ran {
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
        .set("/audit", json!({"ring_kib": ring_kib}))
        .set("/resources/max_runtime_seconds", json!(seconds));
    let run = Run::new(scene, &manifest, ["python3", "-c", &script]);
    let mut run = kept(run, &scene.path("audit"));
    on_a_disk(scene, &mut run, &slow_disk(&sign, times, then));
    run.end()
}

/// When the disk found that the skill was held, or had ended.
fn seen(scene: &Scene, what: &str) -> Option<u64> {
    let said = fs::read_to_string(scene.path("signs").join(format!("begun.{what}"))).ok()?;
    Some(said.parse().expect("a number"))
}

/// How often records say that the skill was held back for a ring of this size, or went on again in vain.
fn held(ran: &Ran, ring_kib: u32, effect: &str) -> u64 {
    let times = ran.of_kind("limit").filter(|limit| {
        let said = limit["effect"].as_str().expect("a text");
        limit["resource"] == "audit" && limit["limit"] == ring_kib && said.contains(effect)
    });
    let counts = times.map(|limit| limit["count"].as_u64().expect("a number"));
    counts.sum()
}

#[test]
fn a_skill_waits_for_a_slow_disk_and_nothing_is_lost() {
    let scene = Scene::new("slow");
    // The second write may be of the same time that it is held.
    let disk = (3, Then::GoOn(1));
    let ran = run(&scene, "for at in range(12000)", 600, LARGE_RING_KIB, disk).with_code(0);
    assert_eq!(
        ran.of_kind("lost").count(),
        0,
        "{:?}",
        ran.of_kind("lost").next()
    );
    let opens = ran.of_kind("open").filter(|open| open["path"] == FILE);
    assert!(opens.count() >= 12_000);
    assert!(held(&ran, LARGE_RING_KIB, "held back for its records") > 0);
    assert_eq!(held(&ran, LARGE_RING_KIB, "went on"), 0);
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
    let disk = (1, Then::GoOn(15));
    let ran = run(&scene, "for at in range(3000)", 600, RING_KIB, disk).with_code(0);
    assert_eq!(held(&ran, RING_KIB, "went on before they were kept"), 1);
    assert!(ran.of_kind("lost").count() > 0);
    assert_eq!(ran.of_kind("end").next().expect("an end")["balanced"], true);
}

#[test]
fn a_skill_that_is_ended_while_it_is_held_back_does_nothing_more() {
    let scene = Scene::new("held");
    let disk = (1, Then::EndTheRun);
    let ran = run(&scene, "while True", 600, LARGE_RING_KIB, disk).with_code(128 + libc::SIGTERM);
    assert!(held(&ran, LARGE_RING_KIB, "held back for its records") > 0);
    assert_eq!(ran.of_kind("lost").count(), 0);
    let at = |record: &Value| record["boot_ns"].as_u64().expect("a number");
    let last = ran.of_kind("open").map(at).max().expect("an open");
    let held_at = seen(&scene, "held").expect("it was held");
    assert!(last < held_at, "{} ns later", last - held_at);
    assert!(seen(&scene, "ended").is_some(), "it was not ended");
}

#[test]
fn the_time_of_a_skill_ends_while_its_disk_is_stuck() {
    let scene = Scene::new("over");
    let disk = (1, Then::WaitForTheEnd);
    let _ended = run(&scene, "while True", 5, RING_KIB, disk).with_code(124);
    assert!(seen(&scene, "ended").is_some(), "it was not ended");
}
