//! A container that another tool starts, under the policy that is attached to its cgroup.

mod kernel_tier {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::Command,
    };

    use serde_json::json;
    use skillsandbox_tests::{
        attached::{EPERM, Ground, OTHER_PORT, PORT, count, policy},
        cgroup::{Attaching, Inside},
        scene::Scene,
    };

    /// Does what each line says, and answers with how that ended.
    const SCRIPT: &str =
        r#"echo ready; while read -r line; do eval "$line" 2>/dev/null; echo $?; done; echo over"#;
    /// How a shell says that it may not execute something.
    const NOT_EXECUTED: &str = "126";
    const NOBODY: u32 = 65_534;

    /// Puts programs, and the libraries that they are linked to, where the container finds them.
    fn install(root: &Path, programs: &[(&str, &str)]) {
        let copy = |from: &Path, to: &str| {
            let to = root.join(to.trim_start_matches('/'));
            let folder = to.parent().expect("a folder");
            fs::create_dir_all(folder).expect("a folder in the container");
            fs::copy(from, to).expect("a file in the container");
        };
        for (program, to) in programs {
            copy(Path::new(program), to);
            let linked = Command::new("ldd").arg(program).output().expect("ldd");
            let linked = String::from_utf8(linked.stdout).expect("paths in UTF-8");
            let libraries = linked.split_whitespace();
            for library in libraries.filter(|word| word.starts_with('/')) {
                copy(Path::new(library), library);
            }
        }
    }

    /// The folder of a container whose cgroup is this.
    fn bundle(scene: &Scene, cgroup: &str) -> PathBuf {
        let bundle = scene.folder("bundle");
        let root = scene.folder("bundle/root");
        let programs = [
            ("/bin/bash", "/usr/bin/bash"),
            ("/bin/true", "/usr/bin/true"),
            ("/bin/true", "/srv/tool"),
        ];
        install(&root, &programs);
        for file in ["srv/data", "srv/secret"] {
            fs::write(root.join(file), "text\n").expect("a file in the container");
        }
        let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({ "type": kind }));
        let mounts = [("/proc", "proc"), ("/dev", "tmpfs")];
        let mounts =
            mounts.map(|(at, kind)| json!({"destination": at, "type": kind, "source": kind}));
        let config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "root"},
            "process": {
                "user": {"uid": NOBODY, "gid": NOBODY},
                "cwd": "/",
                "args": ["/usr/bin/bash", "-c", SCRIPT],
                "noNewPrivileges": true,
            },
            "mounts": mounts,
            "linux": {"cgroupsPath": cgroup, "namespaces": namespaces},
        });
        fs::write(bundle.join("config.json"), config.to_string()).expect("what it is");
        bundle
    }

    fn crun(arguments: &[&str]) -> Command {
        let mut crun = Command::new("crun");
        crun.arg("--cgroup-manager=cgroupfs").args(arguments);
        crun
    }

    #[test]
    fn a_container_is_confined_by_the_policy_of_its_cgroup() {
        let ground = Ground::new("container");
        let bundle = bundle(&ground.scene, &ground.cgroup.place);
        let bundle = bundle.to_str().expect("a path in UTF-8");
        let mut inside = Inside::of(&mut crun(&["run", "--bundle", bundle, &ground.name]));
        let (data, secret) = (": </srv/data", ": </srv/secret");
        let (tool, own) = ("/srv/tool", "/usr/bin/true");
        let connect = |port: u16| format!(": >/dev/udp/127.0.0.1/{port}");
        let mut all = |expected: [&str; 6]| {
            let asked = [
                data,
                secret,
                own,
                tool,
                &connect(PORT),
                &connect(OTHER_PORT),
            ];
            assert_eq!(asked.map(|question| inside.ask(question)), expected);
        };
        all(["0"; 6]);
        let denied = ["0", EPERM, "0", NOT_EXECUTED, "0", EPERM];

        let manifest = ground.manifest("manifest", &policy().read("/srv/data"));
        let mut attached = Attaching::start(&ground.arguments(&manifest));
        all(denied);
        attached.kill();
        all(denied);
        let attached = Attaching::start(&ground.arguments(&manifest));
        ground.detach();
        assert_eq!(attached.end().0, Some(0));
        all(["0"; 6]);
        assert_eq!(inside.last_line(), "over");

        let records = ground.records();
        let denied = |kind, path| count(&records, kind, "path", &json!(path), "deny");
        // By the first and, from the rings that it left, the second.
        assert_eq!(denied("open", "/srv/secret"), 2);
        assert_eq!(denied("exec", "/srv/tool"), 2);
        assert_eq!(
            count(&records, "connect", "port", &json!(OTHER_PORT), "deny"),
            2
        );
    }
}
