//! Two runs of the same skill at once.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use skillsandbox_tests::{manifest::Manifest, sandbox::Run, scene::Scene};

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_mins(3);
    while !path.exists() {
        assert!(
            Instant::now() < deadline,
            "{} does not appear",
            path.display()
        );
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_runs_of_one_skill_do_not_notice_each_other() {
    let scene = Scene::new("together");
    let folder = scene.folder("shared");
    let manifest = Manifest::default().both(&folder);
    // Each waits for the other to run, does what only it does, and looks around.
    let script = |me: &str, other: &str, code: i32| {
        format!(
            "cd {}; echo x > here-{me}; while [ ! -e here-{other} ]; do sleep 0.1; done; \
             cat /etc/of-{me}; echo x > $HOME/of-{me}; echo x > /tmp/of-{me}; \
             echo x > done-{me}; while [ ! -e done-{other} ]; do sleep 0.1; done; \
             ls $HOME /tmp; for id in /proc/[0-9]*; do tr '\\0' ' ' < $id/cmdline; done; \
             exit {code}",
            folder.display()
        )
    };
    let mut first = Run::shell(&scene, &manifest, &script("one", "two", 3));
    let mut second = Run::shell(&scene, &manifest, &script("two", "one", 4));
    first.pipe_output();
    second.pipe_output();
    let (one, two) = (first.start(), second.start());
    let two = second
        .read(two.wait_with_output().expect("an end"))
        .with_code(4);
    let one = first
        .read(one.wait_with_output().expect("an end"))
        .with_code(3);
    for name in ["here-one", "here-two"] {
        wait_for(&folder.join(name));
    }
    assert_ne!(one.trace()["sandbox"], two.trace()["sandbox"]);
    for (ran, me, other) in [(&one, "of-one", "of-two"), (&two, "of-two", "of-one")] {
        let output = ran.output();
        assert_eq!(output.matches(&format!("{me}\n")).count(), 2, "{output}");
        // Its own script names both `here-` and `done-` of the other, never its `of-`.
        assert!(!output.contains(other), "{output}");
        assert!(ran.events_text.contains(&format!("/tmp/{me}")));
        for text in [&ran.events_text, &ran.trace_text, &ran.stderr] {
            assert!(!text.contains(other), "{text}");
        }
        let id = &ran.trace()["sandbox"];
        assert!(ran.events.iter().all(|event| event["sandbox"] == *id));
        assert_eq!(ran.trace()["accounting"]["balanced"], true);
    }
    assert!(
        fs::read_dir("/tmp")
            .expect("/tmp")
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().starts_with("of-") })
    );
}
