//! Sockets that eBPF programs on addresses are not asked about: of other kinds, and to unix sockets.

mod kernel_tier {
    use std::{
        fs,
        os::{
            linux::net::SocketAddrExt,
            unix::{
                fs::PermissionsExt,
                net::{SocketAddr, UnixListener},
            },
        },
    };

    use serde_json::json;
    use skillsandbox_tests::{attempts, manifest::Manifest, sandbox::Run, scene::Scene};

    #[test]
    fn a_unix_socket_of_the_host_is_not_reached_by_path_or_by_abstract_name() {
        let scene = Scene::new("unix");
        let path = scene.path("socket");
        let _by_path = UnixListener::bind(&path).expect("a socket in the scene");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("a mode to set");
        let name = format!("skillsandbox-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an abstract name");
        let _by_name = UnixListener::bind_addr(&address).expect("an abstract socket");
        let attempts = attempts!(["unix", path], ["unix", format!("@{name}")]);
        attempts.outside(&scene).all_ok("before, outside");
        // A file's permissions are not a socket's.
        let manifest = Manifest::default().both(&path);
        let ran = Run::probe(&scene, &manifest, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_denied("in the sandbox");
        let expected = [
            format!("no_rule: {}", path.display()),
            format!("no_rule: {name}"),
        ];
        ran.denied("unix", &expected);
        let is_abstract: Vec<_> = ran
            .of_kind("unix")
            .map(|event| &event["abstract"])
            .collect();
        assert_eq!(is_abstract, [false, true]);
        attempts.outside(&scene).all_ok("after, outside");
    }

    #[test]
    fn of_two_unix_sockets_in_a_granted_folder_only_the_declared_one_is_reached() {
        let scene = Scene::new("declared");
        let folder = scene.folder("sockets");
        let path = |name: &str| folder.join(name);
        let _servers = ["declared", "other"].map(|name| {
            let server = UnixListener::bind(path(name)).expect("a socket in the scene");
            let mode = fs::Permissions::from_mode(0o777);
            fs::set_permissions(path(name), mode).expect("a mode to set");
            server
        });
        let [declared, other] = ["declared", "other"].map(|name| attempts!(["unix", path(name)]));
        other.outside(&scene).all_ok("before, outside");
        let unix = |name: &str| json!([path(name)]);
        let manifest = Manifest::default().set("/permissions/network/unix", unix("declared"));
        // Without the folder there is no other.
        let alone = Run::probe(&scene, &manifest, &declared).end();
        alone.endings(&declared).all_ok("declared, every layer");
        let allowed = alone.of_kind("unix").next().expect("a record");
        let text = format!("network.unix {}", path("declared").display());
        assert_eq!(
            (&allowed["verdict"], &allowed["rule"]["text"]),
            (&json!("allow"), &json!(text))
        );
        let manifest = manifest.read(&folder);
        let denied = [format!("no_rule: {}", path("other").display())];
        // Landlock answers before eBPF where it knows sockets by path (version 9).
        let run = || Run::probe(&scene, &manifest, &other);
        for run in [
            run().option("--without-layer=landlock"),
            run().by_ebpf_alone(),
        ] {
            let ran = run.end();
            ran.endings(&other).all_denied("in the sandbox");
            ran.denied("unix", &denied);
            let event = ran.of_kind("unix").next().expect("a record");
            let line = format!(
                "permissions: {{ network: {{ unix: [{}] }} }}",
                json!(path("other"))
            );
            assert_eq!(event["permit"], line);
        }
        let every = Run::probe(&scene, &manifest, &other).end();
        every.endings(&other).none_ok("with every layer");
        let both = manifest.set(
            "/permissions/network/unix",
            json!([path("other"), path("declared")]),
        );
        let after = Run::probe(&scene, &both, &other).end();
        after.endings(&other).all_ok("after, declared");
        // Datagrams are made by nobody.
        let datagrams = attempts!(["socket", "1", "2", "0"]);
        let ran = Run::probe(&scene, &both, &datagrams).end();
        ran.endings(&datagrams).all_denied("datagrams");
    }

    #[test]
    fn a_unix_socket_that_is_made_anew_is_not_the_one_that_was_declared() {
        let scene = Scene::new("anew");
        let path = scene.folder("sockets").join("socket");
        let bind = || {
            let server = UnixListener::bind(&path).expect("a socket in the scene");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("a mode to set");
            server
        };
        let first = bind();
        let attempts = attempts!(["unix", path]);
        let manifest = Manifest::default()
            .set("/permissions/network/unix", json!([path]))
            .read(scene.path("sockets"))
            .read(scene.folder("signs"));
        let sign = scene.path("signs").join("sign");
        let script = format!(
            "while ! test -e {}; do sleep 0.1; done; exec {} unix {}",
            sign.display(),
            scene.probe().display(),
            path.display()
        );
        Run::probe(&scene, &manifest, &attempts)
            .by_ebpf_alone()
            .end()
            .endings(&attempts)
            .all_ok("the same");
        let manifest = manifest.exec(scene.probe());
        let mut run = Run::shell(&scene, &manifest, &script).by_ebpf_alone();
        run.pipe_output();
        let child = run.start();
        // The rules are made before the skill's first record.
        let begun = std::time::Instant::now();
        while !fs::read_to_string(run.events_file()).is_ok_and(|text| text.contains("\"start\"")) {
            assert!(begun.elapsed().as_secs() < 120, "no start on record");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        drop(first);
        fs::remove_file(&path).expect("the socket goes");
        // Kept, so that the number of the first is not given again.
        fs::write(path.with_extension("kept"), b"").expect("a file");
        let _second = bind();
        scene.file("signs/sign");
        let ran = run.read(child.wait_with_output().expect("an end"));
        ran.endings(&attempts).all_denied("another file");
        ran.denied("unix", &[format!("no_rule: {}", path.display())]);
    }

    #[test]
    fn sockets_whose_addresses_nobody_decides_on_are_not_made() {
        let scene = Scene::new("kinds");
        // Unix datagrams; netlink of uevents, generic, of socket diagnosis.
        let attempts = attempts!(
            ["socket", "1", "2", "0"],
            ["socket", "16", "3", "15"],
            ["socket", "16", "3", "16"],
            ["socket", "16", "2", "4"],
        );
        attempts.outside(&scene).all_ok("before, outside");
        let ran = Run::probe(&scene, &Manifest::default(), &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_denied("in the sandbox");
        let expected = [
            "address_family: unix datagram/0",
            "address_family: netlink raw/15",
            "address_family: netlink raw/16",
            "address_family: netlink datagram/4",
        ];
        ran.denied("socket", &expected.map(str::to_owned));
        let usual = attempts!(
            ["socket", "1", "1", "0"],
            ["socket", "2", "1", "6"],
            ["socket", "10", "2", "17"],
            ["socket", "16", "3", "0"],
        );
        let ran = Run::probe(&scene, &Manifest::default(), &usual)
            .by_ebpf_alone()
            .end();
        ran.endings(&usual).all_ok("usual sockets, in the sandbox");
        assert_eq!(ran.of_kind("socket").count(), 0);
        attempts.outside(&scene).all_ok("after, outside");
    }
}

mod fallback_tier {
    use std::os::unix::net::UnixListener;

    use serde_json::json;
    use skillsandbox_tests::{manifest::Manifest, sandbox::Run, scene::Scene};

    #[test]
    fn a_unix_socket_is_not_granted_where_only_its_folder_would_be_held() {
        let scene = Scene::new("fallback");
        let path = scene.path("socket");
        let manifest = Manifest::default().set("/permissions/network/unix", json!([path]));
        let missing = Run::shell(&scene, &manifest, "true").end().with_code(122);
        assert!(
            missing.stderr.contains("nothing is there"),
            "{}",
            missing.stderr
        );
        let _server = UnixListener::bind(&path).expect("a socket in the scene");
        let ran = Run::shell(&scene, &manifest, "true").end().with_code(121);
        let words = format!("network.unix {}", path.display());
        assert!(ran.stderr.contains(&words), "{}", ran.stderr);
        let denied = manifest.deny(&path);
        let ran = Run::shell(&scene, &denied, "true").end().with_code(120);
        assert!(ran.stderr.contains("a deny wins"), "{}", ran.stderr);
    }
}
