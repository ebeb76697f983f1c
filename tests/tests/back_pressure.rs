//! A skill whose records are made faster than they are kept waits for them, within limits.

use std::time::Duration;

use serde_json::{Value, json};
use skillsandbox_tests::{
    manifest::Manifest,
    sandbox::{Ran, Run},
    scene::Scene,
    store::{audit, kept, on_a_disk, told},
};

const FILE: &str = "/etc/ld.so.cache";
const RING_KIB: u32 = 256;

/// A disk that takes so long, in microseconds, for so many of the writes to a log, after those with which a run begins.
fn slow_disk(microseconds: u32, times: u32) -> String {
    const BEGINNING: u32 = 8;
    format!(
        "#define _GNU_SOURCE\n\
         #include <stdio.h>\n\
         #include <string.h>\n\
         #include <unistd.h>\n\
         #include <sys/syscall.h>\n\
         static unsigned writes;\n\
         ssize_t write(int fd, const void *from, size_t length) {{\n\
         \x20   char link[64], path[4096];\n\
         \x20   snprintf(link, sizeof link, \"/proc/self/fd/%d\", fd);\n\
         \x20   ssize_t size = readlink(link, path, sizeof path);\n\
         \x20   if (size > 4 && !memcmp(path + size - 4, \".log\", 4)\n\
         \x20       && writes++ >= {BEGINNING} && writes <= {BEGINNING} + {times})\n\
         \x20       usleep({microseconds});\n\
         \x20   return syscall(SYS_write, fd, from, length);\n\
         }}\n"
    )
}

/// Runs a script for so long at the most, with its records on a disk like this and behind a small ring.
fn run(scene: &Scene, script: &str, seconds: u64, disk: &str) -> Ran {
    let manifest = Manifest::default()
        .exec("/usr/bin")
        .set("/audit", json!({"ring_kib": RING_KIB}))
        .set("/resources/max_runtime_seconds", json!(seconds));
    let run = Run::new(scene, &manifest, ["python3", "-c", script]);
    let mut run = kept(run, &scene.path("audit"));
    on_a_disk(scene, &mut run, disk);
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
    let script = format!("for at in range(6000): open('{FILE}').close()");
    let ran = run(&scene, &script, 600, &slow_disk(400_000, 10)).with_code(0);
    assert_eq!(
        ran.of_kind("lost").count(),
        0,
        "{:?}",
        ran.of_kind("lost").next()
    );
    let opens = ran.of_kind("open").filter(|open| open["path"] == FILE);
    assert!(opens.count() >= 6000);
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
    let script = format!(
        "import time\n\
         end = time.monotonic() + 18\n\
         while time.monotonic() < end: open('{FILE}').close()\n"
    );
    let ran = run(&scene, &script, 600, &slow_disk(14_000_000, 1)).with_code(0);
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
    const SECONDS: u64 = 9;
    let scene = Scene::new("held");
    let script = format!("while True: open('{FILE}').close()");
    let disk = slow_disk(14_000_000, 1);
    let ran = run(&scene, &script, SECONDS, &disk).with_code(124);
    assert!(held(&ran, "held back for its records").count() > 0);
    assert_eq!(ran.of_kind("lost").count(), 0);
    let at = |record: &Value| record["boot_ns"].as_u64().expect("a number");
    let started = ran.of_kind("start").map(at).next().expect("a start");
    let last = ran.of_kind("open").map(at).max().expect("an open");
    // As the deadline comes after it has started, this is earlier.
    let before = Duration::from_millis(SECONDS * 1000 - 100);
    assert!(u128::from(last - started) < before.as_nanos());
}
