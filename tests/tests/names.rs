//! Files without names, files of a name at any depth, and denials inside of grants.

mod kernel_tier {
    use std::path::Path;

    use skillsandbox_tests::{
        attempts,
        manifest::Manifest,
        sandbox::{Run, ebpf_alone_denies},
        scene::Scene,
    };

    #[test]
    fn a_nameless_file_is_its_folders_and_a_name_in_a_denied_folder_does_not_open_it() {
        let scene = Scene::in_memory("nameless");
        let (granted, denied) = (scene.folder("granted"), scene.folder("denied"));
        let (name, hidden) = (granted.join("named"), denied.join("named"));
        let attempts = attempts!(
            ["nameless", denied],
            ["nameless", granted],
            ["name-held", name],
            ["read", name],
            ["nameless", granted],
            // Making a name opens nothing. Layers that this test leaves out refuse it, and eBPF does
            // from Linux 6.12 on.
            ["name-held", hidden],
            ["read", hidden],
            ["unlink", name],
            ["unlink", hidden],
        );
        attempts.outside(&scene).all_ok("before, outside");
        let one = Manifest::default().both(&granted);
        let ran = Run::probe(&scene, &one, &attempts).by_ebpf_alone().end();
        let no_rule = format!("no_rule: {}", hidden.display());
        let denials = ran.denials("open");
        let first = format!("no_rule: {}/#", denied.display());
        assert!(denials[0].starts_with(&first), "{denials:?}");
        if ran.has_decided_on_names() {
            ran.endings(&attempts).are(
                &[
                    "EPERM", "ok", "ok", "ok", "ok", "EPERM", "ENOENT", "ok", "ENOENT",
                ],
                "in the sandbox",
            );
            let other_folder = format!("other_folder: {}", hidden.display());
            ran.denied("link_to", &[other_folder]);
            assert_eq!(denials.len(), 1, "{denials:?}");
        } else {
            ran.endings(&attempts).are(
                &["EPERM", "ok", "ok", "ok", "ok", "ok", "EPERM", "ok", "ok"],
                "in the sandbox",
            );
            assert_eq!(denials[1..], [no_rule], "{denials:?}");
        }
        // In the folder that it was made in.
        let there = attempts!(
            ["nameless", denied],
            ["name-held", hidden],
            ["read", hidden],
            ["unlink", hidden],
        );
        let both = one.both(&denied);
        let ran = Run::probe(&scene, &both, &there).by_ebpf_alone().end();
        ran.endings(&there).all_ok("after, granted");
    }

    #[test]
    fn a_name_denied_at_any_depth_is_denied_in_every_granted_folder() {
        let scene = Scene::new("anydepth");
        let tree = scene.folder("tree");
        let key = scene.file("tree/key");
        let below = scene.file("tree/a/b/c/key");
        let long = scene.file("tree/keys");
        let folder = scene.folder("tree/x/key");
        let inside = scene.file("tree/x/key/inside");
        let granting = Manifest::default().read(&tree);
        let denying = granting.clone().deny(Path::new("**/key"));
        let attempts = attempts!(
            ["read", key],
            ["read", below],
            ["list", folder],
            ["read", inside]
        );
        let ran = ebpf_alone_denies(&scene, &attempts, &denying, &granting);
        let told = |path: &Path| format!("filesystem.deny **/key: {}", path.display());
        let denied = [&key, &below, &folder, &inside].map(|path| told(path));
        ran.denied("open", &denied);

        let others = attempts!(["read", long]);
        let ran = Run::probe(&scene, &denying, &others).by_ebpf_alone().end();
        ran.endings(&others).all_ok("other names");
    }

    #[test]
    fn a_name_that_others_obey_is_written_where_the_manifest_names_it_only() {
        let scene = Scene::new("persist");
        let tree = scene.folder("tree");
        scene.folder("tree/deep/.git/hooks");
        let hook = tree.join("deep/.git/hooks/pre-commit");
        let object = scene.file("tree/deep/.git/objects");
        let similar = scene.file("tree/.gitx");
        let unnamed = Manifest::default().both(&tree);
        let named = unnamed.clone().persist(".git");
        let attempts = attempts!(["write", hook], ["write", tree.join(".git")]);
        let ran = ebpf_alone_denies(&scene, &attempts, &unnamed, &named);
        let told =
            |name: &str, path: &Path| format!("built-in no write to **/{name}: {}", path.display());
        let denied = [told(".git/hooks", &hook), told(".git", &tree.join(".git"))];
        ran.denied("open", &denied);

        // Others obey nothing of these names, nor an empty folder.
        let others = attempts!(
            ["write", object],
            ["write", similar],
            ["make-folder", tree.join(".vscode")],
        );
        let ran = Run::probe(&scene, &unnamed, &others).by_ebpf_alone().end();
        ran.endings(&others).all_ok("other names");

        let made = attempts!(["symlink", "../x", tree.join(".envrc")]);
        let ran = Run::probe(&scene, &unnamed, &made).by_ebpf_alone().end();
        if ran.has_decided_on_names() {
            ran.endings(&made).all_denied("a link");
            ran.denied("create", &[told(".envrc", &tree.join(".envrc"))]);
            let both = named.persist(".envrc");
            let ran = Run::probe(&scene, &both, &made).by_ebpf_alone().end();
            ran.endings(&made).all_ok("named by the manifest");
        } else {
            ran.endings(&made).all_ok("by nobody");
        }

        let path_named = Manifest::default()
            .both(&tree)
            .write(tree.join("deep/.git/hooks"));
        let hooks = attempts!(["write", hook]);
        let ran = Run::probe(&scene, &path_named, &hooks)
            .by_ebpf_alone()
            .end();
        ran.endings(&hooks).all_ok("named by its path");
    }

    #[test]
    fn denials_inside_of_grants_win_and_end_at_component_boundaries() {
        let scene = Scene::new("inside");
        let tree = scene.folder("tree");
        let denied = scene.folder("tree/no");
        let again = scene.folder("tree/no/yes");
        let deep = scene.file("tree/no/yes/file");
        let file = scene.file("tree/no/file");
        let single = scene.file("tree/single");
        let neighbours = [
            scene.file("tree/nobody"),
            scene.file("tree/no.txt"),
            scene.file("tree/singles"),
        ];
        let granting = Manifest::default().both(&tree).both(&again);
        let denying = granting.clone().deny(&denied).deny(&single);
        let attempts = attempts!(
            ["list", denied],
            ["read", file],
            // A grant inside of a denial grants nothing.
            ["read", deep],
            ["write", denied.join("new")],
            ["read", single],
            ["write", single],
        );
        let ran = ebpf_alone_denies(&scene, &attempts, &denying, &granting);
        let told = |rule: &Path, path: &Path| {
            format!("filesystem.deny {}: {}", rule.display(), path.display())
        };
        ran.denied(
            "open",
            &[
                told(&denied, &denied),
                told(&denied, &file),
                told(&denied, &deep),
                told(&denied, &denied.join("new")),
                told(&single, &single),
                told(&single, &single),
            ],
        );
        let [first, second, third] = &neighbours;
        let others = attempts!(["read", first], ["write", second], ["read", third]);
        let ran = Run::probe(&scene, &denying, &others).by_ebpf_alone().end();
        ran.endings(&others).all_ok("neighbours");
    }

    #[test]
    fn reading_and_writing_are_granted_apart() {
        let scene = Scene::new("apart");
        let (read, write) = (scene.file("read"), scene.file("write"));
        let denied = attempts!(["write", read], ["truncating", read], ["read", write]);
        let granted = attempts!(["read", read], ["write", write]);
        let apart = Manifest::default().read(&read).write(&write);
        let both = Manifest::default().both(&read).both(&write);
        let ran = ebpf_alone_denies(&scene, &denied, &apart, &both);
        let told = |path: &Path| format!("not_granted: {}", path.display());
        ran.denied("open", &[told(&read), told(&read), told(&write)]);
        let ran = Run::probe(&scene, &apart, &granted).by_ebpf_alone().end();
        ran.endings(&granted).all_ok("what is granted");
    }
}
