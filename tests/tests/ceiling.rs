//! What the operator of a host permits bounds what any manifest asks for.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use skillsandbox_tests::{cgroup::Cgroup, manifest::Manifest, sandbox::skillsandbox, scene::Scene};

const FOLDER: &str = "/etc/skillsandbox";

/// Runs the program where this is the host's ceiling.
fn under(scene: &Scene, ceiling: &str, mode: u32, arguments: &[&str]) -> Output {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = scene.folder("etc");
    let file = folder.join("ceiling.yaml");
    fs::write(&file, ceiling).expect("a ceiling");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("its mode");
    let made = fs::create_dir(FOLDER).is_ok();
    let script = "mount --bind \"$0\" /etc/skillsandbox && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(&folder)
        .arg(skillsandbox().get_program())
        .args(arguments)
        .output()
        .expect("unshare");
    if made {
        fs::remove_dir(FOLDER).expect("an empty folder");
    }
    output
}

fn manifest(scene: &Scene) -> String {
    let manifest = Manifest::default()
        .read("/usr/share/doc")
        .egress("192.0.2.0/24", 443, "tcp")
        .exec("/usr/bin/env");
    let file = scene.path("manifest.yaml");
    let text = serde_json::to_string_pretty(&manifest.0).expect("a manifest is JSON");
    fs::write(&file, text).expect("a manifest in the scene");
    file.to_str().expect("a path in UTF-8").to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_exceeds_it_does_not_run_and_is_told_with_both_lines() {
    let scene = Scene::new("ceiling");
    let manifest = manifest(&scene);
    let ran = scene.path("ran");
    let touch = ran.to_str().expect("a path in UTF-8");
    let run = ["run", "--manifest", &manifest, "--", "touch", touch];
    let ceiling = "permissions:\n  filesystem:\n    read: [/srv]\n  exec:\n    allow: [/usr/bin]\n";
    let output = under(&scene, ceiling, 0o644, &run);
    assert_eq!(output.status.code(), Some(120), "{}", said(&output));
    let words = said(&output);
    assert!(words.contains("manifest.yaml:"), "{words}");
    assert!(words.contains("filesystem.read /usr/share/doc"), "{words}");
    assert!(
        words.contains("/etc/skillsandbox/ceiling.yaml:3"),
        "{words}"
    );
    assert!(!words.contains("/usr/bin/env"), "{words}");
    assert!(!Path::new(&ran).exists());

    let cgroup = Cgroup::new("ceiling");
    let store = scene.path("audit");
    let attach = [
        "attach",
        "--name=ceiling",
        "--accept-fallback",
        "--cgroup",
        &cgroup.place,
        "--manifest",
        &manifest,
        "--audit-dir",
        store.to_str().expect("a path in UTF-8"),
    ];
    let output = under(&scene, ceiling, 0o644, &attach);
    assert_eq!(output.status.code(), Some(120), "{}", said(&output));
    assert!(said(&output).contains("filesystem.read /usr/share/doc"));
}

#[test]
fn the_program_that_is_run_is_bounded_too_and_what_is_within_runs() {
    let scene = Scene::new("ceiling");
    let manifest = manifest(&scene);
    let run = ["run", "--manifest", &manifest, "--", "true"];
    let output = under(
        &scene,
        "permissions: { exec: { allow: [/srv] } }",
        0o644,
        &run,
    );
    assert_eq!(output.status.code(), Some(120), "{}", said(&output));
    assert!(
        said(&output).contains("entrypoint /usr/bin/true"),
        "{}",
        said(&output)
    );
    let within = "permissions: { exec: { allow: [/usr/bin] } }\nresources: { memory_mb: 256, max_runtime_seconds: 300 }\n";
    let output = under(&scene, within, 0o644, &run);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn one_that_others_can_write_or_that_cannot_be_read_permits_nothing() {
    let scene = Scene::new("ceiling");
    let manifest = manifest(&scene);
    let run = ["run", "--manifest", &manifest, "--", "true"];
    let output = under(&scene, "{}", 0o664, &run);
    assert_eq!(output.status.code(), Some(120), "{}", said(&output));
    assert!(
        said(&output).contains("nobody else can write"),
        "{}",
        said(&output)
    );
    let output = under(&scene, "permissions: { filesytem: {} }", 0o644, &run);
    assert_eq!(output.status.code(), Some(120), "{}", said(&output));
    assert!(said(&output).contains("filesytem"), "{}", said(&output));
}
