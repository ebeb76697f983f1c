//! Names that files lose and get, what is made, and files that are cut or get another owner. eBPF decides, with every other layer off,
//! on the kernels that let it name files by their folders; on the others other layers do, and the
//! run says so.

mod kernel_tier {
    use std::{fs, path::PathBuf};

    use skillsandbox_tests::{
        attempts,
        attempts::Attempts,
        manifest::Manifest,
        sandbox::{Ran, Run},
        scene::Scene,
    };

    /// Makes the attempts where they are denied, and where they are granted; `files` makes anew
    /// what they need.
    fn denied_by_ebpf_alone(
        scene: &Scene,
        attempts: &Attempts,
        files: &dyn Fn(),
        denying: &Manifest,
        granting: &Manifest,
    ) -> Option<Ran> {
        files();
        attempts.outside(scene).all_ok("before, outside");
        files();
        let denied = Run::probe(scene, denying, attempts).by_ebpf_alone().end();
        if !denied.has_decided_on_names() {
            denied.endings(attempts).all_ok("by nobody");
            files();
            let denied = Run::probe(scene, denying, attempts).end();
            denied.endings(attempts).none_ok("by the other layers");
            return None;
        }
        denied.endings(attempts).all_denied("in the sandbox");
        let after = Run::probe(scene, granting, attempts).by_ebpf_alone().end();
        after.endings(attempts).all_ok("after, granted");
        Some(denied)
    }

    fn told(reason: &str, path: PathBuf) -> String {
        format!("{reason}: {}", path.display())
    }

    #[test]
    fn names_outside_what_may_be_written_are_neither_taken_nor_given() {
        let scene = Scene::new("names");
        let files = || {
            for name in ["in/a", "in/b", "out/a", "out/b", "out/c", "out/d"] {
                scene.file(name);
            }
            let _none = fs::remove_file(scene.path("out/new"));
            let _none = fs::remove_file(scene.path("out/second"));
        };
        let path = |name: &str| scene.path(name);
        let attempts = attempts!(
            ["unlink", path("out/a")],
            ["truncate", path("out/b")],
            ["exchange", path("in/b"), path("out/d")],
            ["rename", path("in/a"), path("out/new")],
            ["link", path("out/c"), path("out/second")],
            ["rename", path("out/b"), path("in/b")],
        );
        let reading = Manifest::default().read(scene.root());
        let denying = reading.clone().both(path("in"));
        let granting = reading.both(scene.root());
        let denied = denied_by_ebpf_alone(&scene, &attempts, &files, &denying, &granting);
        let Some(denied) = denied else { return };
        denied.denied("unlink", &[told("not_granted", path("out/a"))]);
        denied.denied("truncate", &[told("not_granted", path("out/b"))]);
        denied.denied("link", &[told("not_granted", path("out/c"))]);
        denied.denied("rename", &[told("not_granted", path("out/b"))]);
        let targets = ["out/d", "out/new"].map(|name| told("not_granted", path(name)));
        denied.denied("rename_to", &targets);
        let sources: Vec<_> = denied
            .of_kind("rename")
            .filter(|event| event["verdict"] == "allow")
            .map(|event| event["path"].as_str().expect("a path").to_owned())
            .collect();
        let expected = ["in/b", "in/a"].map(|name| path(name).display().to_string());
        assert_eq!(sources, expected, "the names that could go");
    }

    #[test]
    fn outside_what_may_be_written_nothing_is_made_removed_or_given_away() {
        let scene = Scene::new("made");
        let path = |name: &str| scene.path(name);
        let files = || {
            scene.file("out/a");
            scene.folder("out/empty");
            let _none = fs::remove_dir(path("out/new"));
            let _none = fs::remove_file(path("out/link"));
        };
        scene.folder("in");
        let attempts = attempts!(
            ["make-folder", path("out/new")],
            ["symlink", "/etc", path("out/link")],
            ["remove-folder", path("out/empty")],
            ["chmod", path("out/a")],
            ["chown", path("out/a")],
        );
        let reading = Manifest::default().read(scene.root());
        let denying = reading.clone().both(path("in"));
        let granting = reading.both(scene.root());
        let denied = denied_by_ebpf_alone(&scene, &attempts, &files, &denying, &granting);
        let Some(denied) = denied else { return };
        let told = |name: &str| told("not_granted", path(name));
        denied.denied("create", &[told("out/new"), told("out/link")]);
        denied.denied("unlink", &[told("out/empty")]);
        denied.denied("attributes", &[told("out/a"), told("out/a")]);
    }

    #[test]
    fn a_folder_with_something_denied_in_it_keeps_its_name() {
        let scene = Scene::new("holds");
        let path = |name: &str| scene.path(name);
        let files = || {
            let _none = fs::remove_dir_all(path("tree"));
            scene.file("tree/a/b/secret");
            scene.folder("tree/x");
        };
        let attempts = attempts!(
            ["rename", path("tree/a/b"), path("tree/a/c")],
            ["exchange", path("tree/x"), path("tree/a")],
        );
        let granting = Manifest::default().both(path("tree"));
        let denying = granting.clone().deny(path("tree/a/b/secret"));
        files();
        attempts.outside(&scene).all_ok("before, outside");
        files();
        let ran = Run::probe(&scene, &denying, &attempts)
            .by_ebpf_alone()
            .end();
        if !ran.has_decided_on_names() {
            return secret_stays_behind_its_mount(&scene, &denying, &files);
        }
        ran.endings(&attempts).all_denied("in the sandbox");
        let rule = format!("filesystem.deny {}", path("tree/a/b/secret").display());
        ran.denied("rename", &[told(&rule, path("tree/a/b"))]);
        ran.denied("rename_to", &[told(&rule, path("tree/a"))]);
        let ran = Run::probe(&scene, &granting, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_ok("after, without the rule");
    }

    /// Where eBPF does not decide, the denied file is masked by a mount, which goes along.
    fn secret_stays_behind_its_mount(scene: &Scene, denying: &Manifest, files: &dyn Fn()) {
        files();
        let moved = scene.path("tree/a/c/secret");
        let attempts = attempts!(
            ["rename", scene.path("tree/a/b"), scene.path("tree/a/c")],
            ["read", moved],
        );
        let ran = Run::probe(scene, denying, &attempts).end();
        ran.endings(&attempts).last_not_ok("through another name");
    }

    #[test]
    fn a_file_does_not_come_to_where_more_is_granted() {
        let scene = Scene::new("more");
        let path = |name: &str| scene.path(name);
        let files = || {
            scene.file("drop/a");
            scene.file("drop/b");
            scene.folder("tree");
        };
        let attempts = attempts!(["rename", path("drop/a"), path("tree/a")]);
        let denying = Manifest::default().both(path("tree")).write(path("drop"));
        let granting = denying.clone().read(path("drop"));
        files();
        attempts.outside(&scene).all_ok("before, outside");
        files();
        let ran = Run::probe(&scene, &denying, &attempts)
            .by_ebpf_alone()
            .end();
        if !ran.has_decided_on_names() {
            let ran = Run::probe(&scene, &denying, &attempts).end();
            return ran.endings(&attempts).none_ok("by the other layers");
        }
        ran.endings(&attempts).all_denied("in the sandbox");
        ran.denied("rename_to", &[told("more_granted", path("tree/a"))]);
        let ran = Run::probe(&scene, &granting, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_ok("after, granted");
    }

    #[test]
    fn a_hard_link_is_made_in_the_folder_of_its_file_alone() {
        let scene = Scene::new("hardlinks");
        let path = |name: &str| scene.path(name);
        scene.file("tree/a");
        scene.folder("tree/folder");
        let attempts = attempts!(
            ["link", path("tree/a"), path("tree/b")],
            ["link", path("tree/a"), path("tree/folder/c")],
        );
        let manifest = Manifest::default().both(path("tree"));
        let ran = Run::probe(&scene, &manifest, &attempts)
            .by_ebpf_alone()
            .end();
        if !ran.has_decided_on_names() {
            return ran.endings(&attempts).all_ok("by nobody");
        }
        ran.endings(&attempts)
            .are(&["ok", "EPERM"], "in the sandbox");
        ran.denied("link_to", &[told("other_folder", path("tree/folder/c"))]);
    }
}
