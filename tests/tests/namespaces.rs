//! A path means something only in one mount namespace, under one root.

mod kernel_tier {
    use std::{fs, os::unix::process::CommandExt, process::Command};

    use skillsandbox_tests::{
        attempts::NOBODY,
        manifest::Manifest,
        sandbox::{Ran, Run},
        scene::Scene,
    };

    /// A scene with a folder that is granted and one that is not, and a script that gives the file
    /// of the second the name of the first, in a place of its own.
    struct Disguise {
        scene: Scene,
        granted: String,
        script: String,
    }

    impl Disguise {
        fn new(name: &str, script: &str) -> Self {
            let scene = Scene::new(name);
            let folder = |name: &str, content: &str| {
                let folder = scene.folder(name);
                fs::write(folder.join("file"), content).expect("a file in the scene");
                folder.to_str().expect("a path in UTF-8").to_owned()
            };
            let granted = folder("granted", "granted\n");
            let denied = folder("denied", "secret\n");
            let script = script
                .replace("GRANTED", &granted)
                .replace("DENIED", &denied);
            Self {
                scene,
                granted,
                script,
            }
        }

        fn outside(&self) -> String {
            let shell = &mut Command::new("/usr/bin/sh");
            let shell = shell.args(["-c", &self.script]).current_dir("/");
            let output = shell.uid(NOBODY).gid(NOBODY).output().expect("a shell");
            String::from_utf8_lossy(&output.stdout).into_owned()
        }

        fn inside(&self, script: &str) -> Ran {
            // What makes a namespace writes to /proc, what mounts asks there what is mounted.
            let manifest = Manifest::default().read(&self.granted).both("/proc");
            Run::shell(&self.scene, &manifest, script)
                .by_ebpf_alone()
                .end()
        }

        fn is_seen_through(&self) {
            assert_eq!(self.outside(), "secret\n", "before, outside");
            let ran = self.inside(&self.script);
            assert_eq!(ran.output(), "", "{}", ran.stderr);
            let foreign = |event: &&serde_json::Value| event["reason"] == "foreign_namespace";
            let denied = ran.events.iter().filter(foreign).count();
            assert!(denied > 0, "{:#?}", ran.events);
            let honest = self.inside(&format!("cat {}/file", self.granted));
            assert_eq!(honest.output(), "granted\n", "{}", honest.stderr);
            assert_eq!(self.outside(), "secret\n", "after, outside");
        }
    }

    #[test]
    fn a_denied_folder_mounted_over_a_granted_one_stays_denied() {
        let script = "unshare --user --map-root-user --mount \
                      sh -c 'mount --bind DENIED GRANTED && cat GRANTED/file'";
        Disguise::new("mounted", script).is_seen_through();
    }

    #[test]
    fn a_granted_path_under_another_root_is_not_the_granted_one() {
        // The root's GRANTED is the file that is denied outside of it.
        let script = "unshare --user --map-root-user --mount sh -c '\
                      mkdir -p DENIED/root && mount -t tmpfs none DENIED/root && \
                      cd DENIED/root && mkdir -p usr lib lib64 bin .GRANTED && \
                      for at in usr lib lib64 bin; do mount --rbind /$at $at; done && \
                      cp DENIED/file .GRANTED/file && chroot . cat GRANTED/file'";
        Disguise::new("rooted", script).is_seen_through();
    }
}
