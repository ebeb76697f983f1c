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
