//! Ways to name a file. eBPF decides on the file that was meant, with every other layer off.

mod kernel_tier {
    use std::{
        ffi::{OsStr, OsString},
        fs,
        os::unix::ffi::{OsStrExt, OsStringExt},
        path::PathBuf,
    };

    use skillsandbox_tests::{
        attempts,
        manifest::Manifest,
        sandbox::{Run, ebpf_alone_denies},
        scene::Scene,
    };

    /// A folder that is granted, and one in it that is denied.
    struct Ground {
        scene: Scene,
        tree: PathBuf,
        secret: PathBuf,
    }

    impl Ground {
        fn new(name: &str) -> Self {
            let scene = Scene::new(name);
            let tree = scene.folder("tree");
            let secret = scene.folder("tree/secret");
            Self {
                scene,
                tree,
                secret,
            }
        }

        /// Grants the whole tree.
        fn granting(&self) -> Manifest {
            Manifest::default().both(&self.tree)
        }

        /// Grants the tree without the secret.
        fn denying(&self) -> Manifest {
            self.granting().deny(&self.secret)
        }

        /// How a denial by the rule on the secret is told.
        fn by_rule(&self, path: impl AsRef<OsStr>) -> String {
            let path = path.as_ref().to_string_lossy();
            format!("filesystem.deny {}: {path}", self.secret.display())
        }
    }

    #[test]
    fn a_path_30_folders_deep_is_denied_by_the_rule_on_its_root() {
        let ground = Ground::new("deep");
        let file = ground
            .scene
            .file(format!("tree/secret/{}file", "d/".repeat(30)));
        let attempts = attempts!(["read", file], ["write", file]);
        let denied = ebpf_alone_denies(
            &ground.scene,
            &attempts,
            &ground.denying(),
            &ground.granting(),
        );
        denied.denied("open", &vec![ground.by_rule(&file); 2]);
    }

    #[test]
    fn a_path_of_4000_bytes_is_denied_and_recorded_whole() {
        let ground = Ground::new("long");
        let mut file = ground.secret.clone();
        while file.as_os_str().len() < 3_700 {
            file.push("d".repeat(200));
        }
        file.push("f".repeat(4_000 - file.as_os_str().len() - 1));
        assert_eq!(file.as_os_str().len(), 4_000);
        let name = file.strip_prefix(ground.scene.root()).expect("a name");
        ground.scene.file(name);
        let denied = ebpf_alone_denies(
            &ground.scene,
            &attempts!(["read", file]),
            &ground.denying(),
            &ground.granting(),
        );
        denied.denied("open", &[ground.by_rule(&file)]);
    }

    #[test]
    fn a_path_over_4095_bytes_is_denied_with_that_reason_even_where_all_is_granted() {
        let ground = Ground::new("longer");
        let name = OsString::from("d".repeat(250));
        let mut attempts = attempts!(["cd", ground.tree]);
        for _ in 0..17 {
            attempts.push(&["make-folder".as_ref(), &name]);
            attempts.push(&["cd".as_ref(), &name]);
        }
        attempts.outside(&ground.scene).all_ok("making the folders");

        let mut attempts = attempts!(["cd", ground.tree]);
        for _ in 0..17 {
            attempts.push(&["cd".as_ref(), &name]);
        }
        let mut there = attempts;
        there.push(&["write".as_ref(), "file".as_ref()]);
        there.push(&["read".as_ref(), "file".as_ref()]);
        there.outside(&ground.scene).all_ok("before, outside");
        let ran = Run::probe(&ground.scene, &ground.granting(), &there)
            .by_ebpf_alone()
            .end();
        let mut expected = vec!["ok"; 18];
        expected.extend(["EPERM"; 2]);
        ran.endings(&there).are(&expected, "in the sandbox");
        ran.denied("open", &vec!["path_too_long: ?".to_owned(); 2]);
        there.outside(&ground.scene).all_ok("after, outside");
    }

    #[test]
    fn a_deleted_file_is_not_opened_again_through_its_descriptor() {
        let ground = Ground::new("deleted");
        let (kept, deleted) = (
            ground.scene.file("tree/kept"),
            ground.scene.file("tree/deleted"),
        );
        let attempts = attempts!(
            ["hold", kept],
            ["reopen-read"],
            ["reopen-write"],
            ["hold", deleted],
            ["unlink", deleted],
            ["reopen-read"],
            ["reopen-write"],
        );
        attempts.outside(&ground.scene).all_ok("before, outside");
        ground.scene.file("tree/deleted");
        let ran = Run::probe(&ground.scene, &ground.granting(), &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).are(
            &["ok", "ok", "ok", "ok", "ok", "EPERM", "EPERM"],
            "in the sandbox",
        );
        let told = format!("path_deleted: {} (deleted)", deleted.display());
        ran.denied("open", &vec![told; 2]);
        ground.scene.file("tree/deleted");
        attempts.outside(&ground.scene).all_ok("after, outside");
    }

    #[test]
    fn a_descriptor_without_access_gives_none_through_proc_self_fd() {
        let ground = Ground::new("descriptor");
        let file = ground.scene.file("tree/secret/file");
        let with_file = attempts!(
            ["reference", file],
            ["reopen-read"],
            ["reopen-write"],
            ["reference", ground.secret],
            ["read-below-held", "file"],
        );
        with_file.outside(&ground.scene).all_ok("before, outside");
        let ran = Run::probe(&ground.scene, &ground.denying(), &with_file)
            .by_ebpf_alone()
            .end();
        // Making a reference (O_PATH) is no access.
        ran.endings(&with_file)
            .are(&["ok", "EPERM", "EPERM", "ok", "EPERM"], "in the sandbox");
        ran.denied("open", &vec![ground.by_rule(&file); 3]);
        let after = Run::probe(&ground.scene, &ground.granting(), &with_file)
            .by_ebpf_alone()
            .end();
        after.endings(&with_file).all_ok("after, granted");
    }

    #[test]
    fn a_descriptor_for_reading_is_not_opened_again_for_writing() {
        let ground = Ground::new("readonly");
        let file = ground.scene.file("tree/file");
        let attempts = attempts!(
            ["hold", file],
            ["reopen-read"],
            ["reopen-write"],
            ["truncating", file],
        );
        attempts.outside(&ground.scene).all_ok("before, outside");
        let reading = Manifest::default().read(&ground.tree);
        let ran = Run::probe(&ground.scene, &reading, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts)
            .are(&["ok", "ok", "EPERM", "EPERM"], "in the sandbox");
        ran.denied("open", &vec![format!("not_granted: {}", file.display()); 2]);
        let after = Run::probe(&ground.scene, &ground.granting(), &attempts)
            .by_ebpf_alone()
            .end();
        after.endings(&attempts).all_ok("after, granted");
    }

    #[test]
    fn proc_self_root_and_cwd_lead_to_the_same_rule() {
        let ground = Ground::new("procroot");
        let file = ground.scene.file("tree/secret/file");
        let through = |start: &str| format!("{start}{}", file.display());
        let attempts = attempts!(
            ["read", through("/proc/self/root")],
            ["read", through("/proc/thread-self/root")],
            ["read", through("/proc/self/cwd")],
            ["read", through("/proc/self/root/proc/self/root")],
            ["write", through("/proc/self/root")],
            ["read", through("/usr/..//.")],
        );
        let denied = ebpf_alone_denies(
            &ground.scene,
            &attempts,
            &ground.denying(),
            &ground.granting(),
        );
        denied.denied("open", &vec![ground.by_rule(&file); 6]);
    }

    #[test]
    fn a_symlink_in_a_granted_folder_does_not_lead_into_a_denied_one() {
        let ground = Ground::new("symlink");
        let file = ground.scene.file("tree/secret/file");
        let link = ground.tree.join("link");
        let folder = ground.tree.join("folder");
        std::os::unix::fs::symlink("secret/file", &link).expect("a link");
        std::os::unix::fs::symlink(&ground.secret, &folder).expect("a link");
        let attempts = attempts!(
            ["read", link],
            ["write", link],
            ["read", folder.join("file")],
            ["write", folder.join("new")],
        );
        let denied = ebpf_alone_denies(
            &ground.scene,
            &attempts,
            &ground.denying(),
            &ground.granting(),
        );
        let mut expected = vec![ground.by_rule(&file); 3];
        expected.push(ground.by_rule(ground.secret.join("new")));
        denied.denied("open", &expected);
    }

    #[test]
    fn a_symlink_that_the_skill_makes_does_not_lead_out_of_what_is_granted() {
        let ground = Ground::new("ownlink");
        let outside = ground.scene.file("outside/file");
        let link = ground.tree.join("link");
        let attempts = attempts!(["symlink", outside, link], ["read", link], ["unlink", link]);
        attempts.outside(&ground.scene).all_ok("before, outside");
        let ran = Run::probe(&ground.scene, &ground.granting(), &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts)
            .are(&["ok", "EPERM", "ok"], "in the sandbox");
        ran.denied("open", &[format!("no_rule: {}", outside.display())]);
        let granting = ground.granting().read(&outside);
        let after = Run::probe(&ground.scene, &granting, &attempts)
            .by_ebpf_alone()
            .end();
        after.endings(&attempts).all_ok("after, granted");
    }

    #[test]
    fn a_hard_link_is_decided_by_the_name_it_is_opened_under() {
        let ground = Ground::new("hardlink");
        let secret = ground.scene.file("tree/secret/file");
        let open = ground.scene.file("tree/open");
        // Made beforehand, by somebody who may: its own name is granted, so it may be opened.
        let out = ground.tree.join("out");
        fs::hard_link(&secret, &out).expect("a hard link");
        // The other way: a granted file under a name in the denied folder.
        let into = ground.secret.join("into");
        fs::hard_link(&open, &into).expect("a hard link");
        let granted = attempts!(["read", out], ["write", out], ["read", open]);
        let denied = attempts!(["read", into], ["write", into], ["read", secret]);
        granted.outside(&ground.scene).all_ok("before, outside");
        let ran = Run::probe(&ground.scene, &ground.denying(), &granted)
            .by_ebpf_alone()
            .end();
        ran.endings(&granted).all_ok("by granted names");
        let ran = ebpf_alone_denies(
            &ground.scene,
            &denied,
            &ground.denying(),
            &ground.granting(),
        );
        let by_rule = |path| ground.by_rule(path);
        ran.denied("open", &[by_rule(&into), by_rule(&into), by_rule(&secret)]);
    }

    #[test]
    fn openat2_and_io_uring_open_nothing_more() {
        let ground = Ground::new("calls");
        let file = ground.scene.file("tree/secret/file");
        let attempts = attempts!(["openat2", file], ["uring-open", file]);
        let denied = ebpf_alone_denies(
            &ground.scene,
            &attempts,
            &ground.denying(),
            &ground.granting(),
        );
        denied.denied("open", &vec![ground.by_rule(&file); 2]);
    }

    #[test]
    fn names_of_any_bytes_are_denied_and_recorded_as_they_are() {
        let ground = Ground::new("bytes");
        let names: [&[u8]; 5] = [
            b"new\nline",
            b"\xff\xfe invalid \xc3(",
            b"\x1b[31mred \\ back",
            " \u{202e}\u{1f512}".as_bytes(),
            &[b'n'; 255],
        ];
        for name in names {
            let file = ground.secret.join(OsStr::from_bytes(name));
            let inside = file.strip_prefix(ground.scene.root()).expect("a name");
            ground.scene.file(inside);
            let denied = ebpf_alone_denies(
                &ground.scene,
                &attempts!(["read", file]),
                &ground.denying(),
                &ground.granting(),
            );
            let event = denied
                .of_kind("open")
                .find(|event| event["verdict"] == "deny")
                .expect("a denial on record");
            let bytes = match event["path_bytes"].as_str() {
                Some(hexadecimal) => unhex(hexadecimal),
                None => event["path"].as_str().expect("a path").as_bytes().to_vec(),
            };
            assert_eq!(OsString::from_vec(bytes), file.as_os_str());
            assert_eq!(denied.denials("open").len(), 1);
        }
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| std::str::from_utf8(pair).expect("digits"))
            .map(|pair| u8::from_str_radix(pair, 16).expect("digits"))
            .collect()
    }
}
