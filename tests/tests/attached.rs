//! Policies of cgroups that are there already: in force whether a recorder lives or not, and one after another.

use std::fs;

use serde_json::json;
use skillsandbox_tests::{
    attached::{ACTOR, EPERM, Ground, OTHER_PORT, PORT, count, policy, text},
    cgroup::{Attaching, Inside, command, listed},
};

#[test]
fn addresses_are_denied_from_attaching_to_detaching_and_before_and_after_they_are_not() {
    let ground = Ground::new("addresses");
    let manifest = ground.manifest("manifest", &policy());
    let mut inside = ground.cgroup.python(ACTOR);
    let other = format!("connect {OTHER_PORT}");
    assert_eq!(inside.ask(&other), "0");
    let attached = Attaching::start(&ground.arguments(&manifest));
    assert_eq!(inside.ask(&other), EPERM);
    assert_eq!(inside.ask(&format!("connect {PORT}")), "0");
    let there = listed(&ground.name).expect("it is listed");
    assert_eq!(there["state"], "recorded");
    assert_eq!(there["cgroup"], json!(ground.cgroup.place));
    assert_eq!(there["processes"], 1);
    ground.detach();
    assert_eq!(attached.end().0, Some(0));
    assert_eq!(inside.ask(&other), "0");
    let records = ground.records();
    assert_eq!(
        count(&records, "connect", "port", &json!(OTHER_PORT), "deny"),
        1
    );
    assert_eq!(count(&records, "connect", "port", &json!(PORT), "allow"), 1);
    let running = records.iter().find(|record| record["kind"] == "running");
    assert_eq!(running.expect("what runs")["tgid"], inside.id());
}

#[test]
fn a_policy_that_is_only_audited_denies_nothing_and_records_what_it_would() {
    let ground = Ground::new("audited");
    let manifest = ground.manifest("manifest", &policy());
    let mut inside = ground.cgroup.python(ACTOR);
    let mut arguments = ground.arguments(&manifest);
    arguments.extend(["--mode", "audit"]);
    let attached = Attaching::start(&arguments);
    let other = format!("connect {OTHER_PORT}");
    assert_eq!(inside.ask(&other), "0");
    assert_eq!(inside.ask(&format!("connect {PORT}")), "0");
    let (code, said) = command(&["reload", &ground.name]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(inside.ask(&other), "0", "it stays as it was asked for");
    ground.detach();
    drop(attached);
    let attached = Attaching::start(&ground.arguments(&manifest));
    assert_eq!(inside.ask(&other), EPERM);
    ground.detach();
    drop(attached);
    let records = ground.records();
    let of = |port: u16, verdict| count(&records, "connect", "port", &json!(port), verdict);
    assert_eq!(of(OTHER_PORT, "would_deny"), 2);
    assert_eq!(of(OTHER_PORT, "deny"), 1);
    assert_eq!(of(PORT, "allow"), 1);
    let ends = records.iter().filter(|record| record["kind"] == "end");
    let counted: Vec<_> = ends
        .map(|end| end["counts"]["would_deny"].as_u64())
        .collect();
    assert_eq!(counted, [Some(1), Some(1), None]);
}

#[test]
fn a_frozen_cgroup_is_told_of() {
    let ground = Ground::new("frozen");
    let manifest = ground.manifest("manifest", &policy());
    let freeze = ground.cgroup.path().join("cgroup.freeze");
    fs::write(&freeze, "1").expect("a cgroup that freezes");
    let (code, said) = Attaching::start_only(&ground.arguments(&manifest)).end();
    assert_eq!(code, Some(122), "{said}");
    assert!(said.contains("is frozen"), "{said}");
    fs::write(&freeze, "0").expect("a cgroup that thaws");
}

#[test]
fn the_end_of_the_cgroup_completes_the_record() {
    let ground = Ground::new("gone");
    let manifest = ground.manifest("manifest", &policy());
    let mut inside = ground.cgroup.python(ACTOR);
    let attached = Attaching::start(&ground.arguments(&manifest));
    assert_eq!(inside.ask(&format!("connect {OTHER_PORT}")), EPERM);
    assert_eq!(inside.last_line(), "over");
    fs::remove_dir(ground.cgroup.path()).expect("an empty cgroup");
    let (code, said) = attached.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is gone"), "{said}");
    assert!(listed(&ground.name).is_none());
    let records = ground.records();
    assert_eq!(
        count(&records, "connect", "port", &json!(OTHER_PORT), "deny"),
        1
    );
}

#[test]
fn what_cannot_be_attached_is_refused_with_a_reason_and_nothing_is_left() {
    let ground = Ground::new("refused");
    let manifest = ground.manifest("manifest", &policy());
    let refused = |cgroup: &str, why: &str| {
        let name = "refused";
        let options = ["--audit-dir", &ground.store, "--accept-fallback"];
        let mut arguments = vec!["--name", name, "--cgroup", cgroup, "--manifest", &manifest];
        arguments.extend(options);
        let (code, said) = Attaching::start_only(&arguments).end();
        assert_eq!(code, Some(122), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(listed(name).is_none());
    };
    refused("/", "root of all cgroups");
    refused("/no-such-cgroup", "is not there");
    refused("/skillsandbox/x", "that `run` made");
    refused("/../etc", "open the cgroup");
    let attached = Attaching::start(&ground.arguments(&manifest));
    fs::create_dir(ground.cgroup.path().join("below")).expect("a cgroup below");
    refused(&format!("{}/below", ground.cgroup.place), "in one another");
    let again = Attaching::start_only(&ground.arguments(&manifest)).end();
    assert!(
        again.1.contains("another process records it"),
        "{}",
        again.1
    );
    ground.detach();
    drop(attached);
    fs::remove_dir(ground.cgroup.path().join("below")).expect("an empty cgroup");
    for (arguments, why) in [
        (vec!["detach", "no-such-name"], "no cgroup is attached"),
        (vec!["reload", "no-such-name"], "no cgroup is attached"),
        (vec!["detach", "../x"], "cannot be the name"),
    ] {
        let (code, said) = command(&arguments);
        assert_eq!(code, Some(122), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

mod fallback_tier {
    use super::*;

    #[test]
    fn what_nothing_decides_on_is_attached_only_if_that_is_accepted() {
        let ground = Ground::new("unheld");
        let manifest = ground.manifest("manifest", &policy());
        let mut arguments = ground.arguments(&manifest);
        arguments.pop();
        let (code, said) = Attaching::start_only(&arguments).end();
        assert_eq!(code, Some(121), "{said}");
        assert!(said.contains("decides on files and programs"), "{said}");
        assert!(listed(&ground.name).is_none());
    }
}

mod kernel_tier {
    use super::*;

    #[test]
    fn files_and_programs_are_denied_from_attaching_to_detaching() {
        let ground = Ground::new("files");
        let secret = ground.scene.file("secret");
        let data = ground.scene.file("data");
        let granted = policy().read(&data).exec("/usr/bin/true");
        let manifest = ground.manifest("manifest", &granted);
        let mut inside = ground.cgroup.python(ACTOR);
        let folder = ground.scene.path("folder");
        let mkdir = format!("mkdir {}", folder.display());
        let all = [
            format!("open {}", secret.display()),
            "exec /usr/bin/sync".to_owned(),
        ];
        let is_free = |inside: &mut Inside| {
            for access in all.iter().chain([&mkdir]) {
                assert_eq!(inside.ask(access), "0", "{access}");
            }
            fs::remove_dir(&folder).expect("the folder");
        };
        is_free(&mut inside);
        let mut attached = Attaching::start(&ground.arguments(&manifest));
        let warned = attached
            .said
            .iter()
            .any(|line| line.contains("DECIDES there on names"));
        for access in &all {
            assert_eq!(inside.ask(access), EPERM, "{access}");
        }
        let made = inside.ask(&mkdir);
        assert_eq!(inside.ask(&format!("open {}", data.display())), "0");
        assert_eq!(inside.ask("exec /usr/bin/true"), "0");
        attached.kill();
        assert_eq!(inside.ask(&all[0]), EPERM);
        assert_eq!(inside.ask(&format!("open {}", data.display())), "0");
        ground.detach();
        // It is there where nothing stopped it.
        let _removed = fs::remove_dir(&folder);
        is_free(&mut inside);
        let records = ground.records();
        let path = json!(text(&secret));
        assert_eq!(count(&records, "open", "path", &path, "deny"), 2);
        // Linux 6.1 lets no program name what is made, and the record says so.
        let start = records.iter().find(|record| record["kind"] == "start");
        let layers = start.and_then(|start| start["layers"].as_array());
        let mut layers = layers.expect("layers").iter();
        let decides =
            layers.any(|layer| layer["name"] == "ebpf path_mkdir" && layer["achieved"] == true);
        assert_eq!(made, if decides { EPERM } else { "0" });
        assert_eq!(warned, !decides);

        let mut arguments = ground.arguments(&manifest);
        assert_eq!(arguments.pop(), Some("--accept-fallback"));
        let mut unaccepted = Attaching::start_only(&arguments);
        if decides {
            unaccepted.wait_until_in_force();
            ground.detach();
        } else {
            let (code, said) = unaccepted.end();
            assert_eq!(code, Some(121), "{said}");
            assert!(said.contains("names that files are given"), "{said}");
        }
    }

    #[test]
    fn a_path_is_that_of_the_file_tree_that_the_processes_see() {
        let ground = Ground::new("home");
        let folder = ground.scene.folder("granted");
        fs::write(folder.join("file"), "outside").expect("a file");
        let manifest = ground.manifest("manifest", &policy().read(&folder));
        let script = format!(
            "mount -t tmpfs none '{0}' && echo inside > '{0}/file' && exec python3 -u -c \"$1\"",
            folder.display()
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, "sh", ACTOR]);
        let mut inside = ground.cgroup.start(&mut command);
        let open = format!("open {}", folder.join("file").display());
        let attached = Attaching::start(&ground.arguments(&manifest));
        assert_eq!(inside.ask(&open), "0");
        assert_eq!(inside.ask("open /etc/shadow"), EPERM);
        // A process of another file tree comes later: there the path may mean anything.
        let elsewhere = std::process::Command::new("sh")
            .args([
                "-c",
                "echo 0 > \"$0\"; read line < /etc/passwd && echo read",
            ])
            .arg(ground.cgroup.path().join("cgroup.procs"))
            .output()
            .expect("a shell");
        assert!(elsewhere.stdout.is_empty(), "{elsewhere:?}");
        ground.detach();
        drop(attached);
        let records = ground.records();
        let foreign = records
            .iter()
            .filter(|record| record["reason"] == "foreign_namespace");
        assert!(foreign.count() > 0);
    }
}
