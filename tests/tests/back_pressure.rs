//! A skill whose records are made faster than they are kept waits for them, within limits.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
    store::{audit, kept, on_a_disk, told},
};

const FILE: &str = "/etc/ld.so.cache";
const RING_KIB: u32 = 128;

/// A disk that so many of the writes to a log, once the skill has given a sign, wait for until it is held back, and then so long. How
/// fast a machine makes records does not matter so.
fn slow_disk(sign: &Path, seconds: f32, times: u32) -> String {
    const AT_MOST_MS: u32 = 60_000;
    let sign = sign.display();
    format!(
        r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

static unsigned writes;

static int leads_to(int fd, const char *end, char path[4096]) {{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 4095), length = strlen(end);
    path[size < 0 ? 0 : size] = 0;
    return size > length && !strcmp(path + size - length, end);
}}

static int is_held(void) {{
    char path[4096], held = '0';
    for (int fd = 3; fd < 256; fd++) {{
        if (!leads_to(fd, "/cgroup.freeze", path)) continue;
        int cgroup = open(path, O_RDONLY | O_CLOEXEC);
        read(cgroup, &held, 1);
        close(cgroup);
        break;
    }}
    return held == '1';
}}

ssize_t write(int fd, const void *from, size_t length) {{
    char path[4096];
    if (leads_to(fd, ".log", path) && !access("{sign}", F_OK) && writes++ < {times}) {{
        for (int waited = 0; waited < {AT_MOST_MS} && !is_held(); waited++) usleep(1000);
        usleep({seconds} * 1000000);
    }}
    return syscall(SYS_write, fd, from, length);
}}
"#
    )
}

/// Has a skill open a file this often, or for as long as it may, with its records on a disk that is as slow and behind a small ring.
fn run(scene: &Scene, opens: &str, seconds: u64, (wait, times): (f32, u32)) -> Ran {
    let signs = scene.folder("signs");
    let sign = signs.join("begun");
    let script = format!(
        "open('{}', 'w').close()\n\
         {opens}: open('{FILE}').close()",
        sign.display()
    );
    let manifest = Manifest::default()
        .exec("/usr/bin")
        .write(signs)
        .set("/audit", json!({"ring_kib": RING_KIB}))
        .set("/resources/max_runtime_seconds", json!(seconds));
    let run = Run::new(scene, &manifest, ["python3", "-c", &script]);
    let mut run = kept(run, &scene.path("audit"));
    on_a_disk(scene, &mut run, &slow_disk(&sign, wait, times));
    run.end()
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
    let ran = run(&scene, "for at in range(3000)", 600, (0.2, 3)).with_code(0);
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
    let ran = run(&scene, "for at in range(3000)", 600, (15.0, 1)).with_code(0);
    let in_vain: Vec<_> = held(&ran, "went on before they were kept").collect();
    assert!(
        matches!(in_vain.as_slice(), [once] if once["count"] == 1),
        "{in_vain:?}"
    );
    assert!(ran.of_kind("lost").count() > 0);
    assert_eq!(ran.of_kind("end").next().expect("an end")["balanced"], true);
}

#[test]
fn a_skill_whose_time_is_up_while_it_is_held_back_does_nothing_more() {
    const SECONDS: u64 = 8;
    let scene = Scene::new("held");
    let ran = run(&scene, "while True", SECONDS, (9.0, 1)).with_code(124);
    assert!(held(&ran, "held back for its records").count() > 0);
    assert_eq!(ran.of_kind("lost").count(), 0);
    let at = |record: &Value| record["boot_ns"].as_u64().expect("a number");
    let started = ran.of_kind("start").map(at).next().expect("a start");
    let last = ran.of_kind("open").map(at).max().expect("an open");
    // As the deadline comes after it has started, this is earlier.
    let before = Duration::from_millis(SECONDS * 1000 - 100);
    assert!(u128::from(last - started) < before.as_nanos());
}
