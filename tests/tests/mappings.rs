//! Files that become code without being executed. eBPF decides, with every other layer off.

mod kernel_tier {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use skillsandbox_tests::{
        attempts,
        manifest::Manifest,
        sandbox::{Run, ebpf_alone_denies},
        scene::Scene,
    };

    /// A program that a skill may read, and not execute unless it is granted.
    fn program(scene: &Scene) -> PathBuf {
        let path = scene.file("tree/program");
        fs::copy("/usr/bin/true", &path).expect("a copy of true");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode to set");
        path
    }

    #[test]
    fn a_file_that_may_not_be_executed_is_not_mapped_as_code() {
        let scene = Scene::new("mapped");
        let program = program(&scene);
        let attempts = attempts!(["map", program]);
        let reading = Manifest::default().read(&program);
        let granting = reading.clone().exec(&program);
        let ran = ebpf_alone_denies(&scene, &attempts, &reading, &granting);
        ran.denied("map", &[format!("not_granted: {}", program.display())]);
        let permit = ran.of_kind("map").find_map(|map| map["permit"].as_str());
        let expected = format!(
            "permissions: {{ exec: {{ allow: [\"{}\"] }} }}",
            program.display()
        );
        assert_eq!(permit, Some(expected.as_str()));
    }

    #[test]
    fn the_dynamic_loader_runs_nothing_that_may_not_be_executed_even_where_it_may_be_itself() {
        let scene = Scene::new("byloader");
        let program = program(&scene);
        let loader = fs::canonicalize("/lib64/ld-linux-x86-64.so.2").expect("the dynamic loader");
        let attempts = attempts!(["exec", loader, program]);
        attempts.outside(&scene).all_ok("before, outside");
        let manifest = Manifest::default().read(&program).exec(&loader);
        let ran = Run::probe(&scene, &manifest, &attempts)
            .by_ebpf_alone()
            .end();
        // The loader itself runs, and says that it cannot.
        ran.endings(&attempts)
            .all("the program ended with status 0x7f00", "in the sandbox");
        ran.denied("map", &[format!("not_granted: {}", program.display())]);
        let granting = manifest.exec(&program);
        let ran = Run::probe(&scene, &granting, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_ok("after, granted");
    }

    #[test]
    fn a_library_that_the_skill_writes_is_not_loaded() {
        let scene = Scene::new("preload");
        let tree = scene.folder("tree");
        let library = tree.join("library.so");
        let script = format!(
            "cp /usr/lib/x86_64-linux-gnu/libc.so.6 {0}; LD_PRELOAD={0} /usr/bin/true",
            library.display()
        );
        let manifest = Manifest::default().both(&tree);
        let ran = Run::shell(&scene, &manifest, &script).by_ebpf_alone().end();
        let ran = ran.with_code(0);
        ran.denied("map", &[format!("not_granted: {}", library.display())]);
        assert!(ran.stderr.contains("cannot be preloaded"), "{}", ran.stderr);
        let granting = manifest.exec(&library);
        let ran = Run::shell(&scene, &granting, &script).by_ebpf_alone().end();
        ran.with_code(0).denied("map", &[]);
    }

    #[test]
    fn libraries_of_the_system_and_memory_of_no_file_become_code() {
        let scene = Scene::new("ordinary");
        let library = fs::canonicalize("/usr/lib/x86_64-linux-gnu/libc.so.6").expect("a library");
        let attempts = attempts!(
            ["map", library],
            ["map-anonymous"],
            ["exec-with-page-zero", "/usr/bin/true"],
        );
        let manifest = Manifest::default().exec("/usr/bin/true");
        let ran = Run::probe(&scene, &manifest, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_ok("in the sandbox");
        let is_it = |event: &serde_json::Value| event["path"] == library.to_str().expect("UTF-8");
        let mut mapped = ran.of_kind("map").filter(|event| is_it(event));
        assert!(mapped.any(|event| event["verdict"] == "allow"));
        ran.denied("map", &[]);
    }

    #[test]
    fn a_memory_file_does_not_become_code() {
        let scene = Scene::new("memorymap");
        let attempts = attempts!(["map-memory-file"]);
        attempts.outside(&scene).all_ok("before, outside");
        let manifest = Manifest::default().exec("/usr/bin");
        let ran = Run::probe(&scene, &manifest, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_denied("in the sandbox");
        ran.denied("map", &["no_rule: /memfd:code (deleted)".to_owned()]);
    }
}

#[test]
fn what_is_granted_for_reading_or_writing_alone_is_not_mapped_as_code() {
    use std::fs;

    use skillsandbox_tests::{attempts, manifest::Manifest, sandbox::Run, scene::Scene};

    let scene = Scene::new("noexec");
    let program = scene.file("tree/program");
    fs::copy("/usr/bin/true", &program).expect("a copy of true");
    let attempts = attempts!(["map", program]);
    attempts.outside(&scene).all_ok("before, outside");
    let manifest = Manifest::default().both(scene.path("tree"));
    let ran = Run::probe(&scene, &manifest, &attempts).end();
    ran.endings(&attempts)
        .all_denied("in the sandbox, by all layers");
    let alone = Run::probe(&scene, &manifest, &attempts)
        .option("--without-layer=landlock,seccomp")
        .end();
    alone
        .endings(&attempts)
        .none_ok("without Landlock and seccomp");
    let granting = manifest.exec(scene.path("tree"));
    let ran = Run::probe(&scene, &granting, &attempts).end();
    ran.endings(&attempts).all_ok("after, granted");
}
