//! Ways to execute. eBPF decides on the program that was meant, with every other layer off.

mod kernel_tier {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
        path::{Path, PathBuf},
    };

    use skillsandbox_tests::{
        attempts,
        manifest::Manifest,
        sandbox::{Run, ebpf_alone_denies},
        scene::Scene,
    };

    /// A program that a skill may read and not execute.
    fn undeclared(scene: &Scene) -> PathBuf {
        let path = scene.file("tree/program");
        fs::copy("/usr/bin/true", &path).expect("a copy of true");
        executable(&path);
        path
    }

    fn executable(path: &Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode to set");
    }

    fn loader() -> PathBuf {
        fs::canonicalize("/lib64/ld-linux-x86-64.so.2").expect("the dynamic loader")
    }

    #[test]
    fn an_undeclared_program_is_denied_under_all_its_names() {
        let scene = Scene::new("undeclared");
        let program = undeclared(&scene);
        let tree = scene.path("tree");
        let (link, hard) = (tree.join("link"), tree.join("hard"));
        symlink(&program, &link).expect("a link");
        fs::hard_link(&program, &hard).expect("a hard link");
        let through = format!("/proc/self/root{}", program.display());
        let attempts = attempts!(
            ["exec", program],
            ["exec", link],
            ["exec", hard],
            ["exec", through],
        );
        let reading = Manifest::default().read(&tree);
        let ran = ebpf_alone_denies(&scene, &attempts, &reading, &reading.clone().exec(&tree));
        let told = |path: &Path| format!("not_granted: {}", path.display());
        let expected = [told(&program), told(&program), told(&hard), told(&program)];
        ran.denied("exec", &expected);
    }

    #[test]
    fn an_undeclared_program_is_denied_through_a_descriptor() {
        let scene = Scene::new("execdescriptor");
        let program = undeclared(&scene);
        let attempts = attempts!(
            ["hold", program],
            ["exec-held", program],
            ["reference", program],
            ["exec-held", program],
        );
        attempts.outside(&scene).all_ok("before, outside");
        let reading = Manifest::default().read(&program);
        let ran = Run::probe(&scene, &reading, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts)
            .are(&["ok", "EPERM", "ok", "EPERM"], "in the sandbox");
        ran.denied(
            "exec",
            &vec![format!("not_granted: {}", program.display()); 2],
        );
        let granting = reading.exec(&program);
        let ran = Run::probe(&scene, &granting, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_ok("after, granted");
    }

    #[test]
    fn a_program_in_memory_is_denied_whatever_is_declared() {
        let scene = Scene::new("memory");
        let attempts = attempts!(["exec-memory", "/usr/bin/true"]);
        attempts.outside(&scene).all_ok("before, outside");
        let manifest = Manifest::default().exec("/usr/bin");
        let ran = Run::probe(&scene, &manifest, &attempts)
            .by_ebpf_alone()
            .end();
        ran.endings(&attempts).all_denied("in the sandbox");
        ran.denied("exec", &["no_rule: /memfd:program (deleted)".to_owned()]);
        let declared = attempts!(["exec", "/usr/bin/true"]);
        let ran = Run::probe(&scene, &manifest, &declared)
            .by_ebpf_alone()
            .end();
        ran.endings(&declared)
            .all_ok("the same program by its path");
    }

    #[test]
    fn the_dynamic_loader_is_no_way_around() {
        let scene = Scene::new("loader");
        let program = undeclared(&scene);
        let loader = loader();
        let attempts = attempts!(
            ["exec", loader, program],
            ["exec", "/lib64/ld-linux-x86-64.so.2", program],
        );
        let manifest = Manifest::default().read(&program);
        // The loader maps the program as code, for which it must be executable as well.
        let granting = manifest.clone().exec(&loader).exec(&program);
        let ran = ebpf_alone_denies(&scene, &attempts, &manifest, &granting);
        ran.denied(
            "exec",
            &vec![format!("not_granted: {}", loader.display()); 2],
        );
    }

    #[test]
    fn a_script_needs_its_own_grant_and_that_of_its_interpreter() {
        let scene = Scene::new("script");
        let script = scene.file("tree/script");
        fs::write(&script, "#!/bin/sh\ntrue\n").expect("a script");
        executable(&script);
        let shell = fs::canonicalize("/bin/sh").expect("a shell");
        let attempts = attempts!(["exec", script]);
        let reading = Manifest::default().read(&script);
        let (script_only, shell_only) = (reading.clone().exec(&script), reading.exec(&shell));
        let both = script_only.clone().exec(&shell);
        let ran = ebpf_alone_denies(&scene, &attempts, &shell_only, &both);
        ran.denied("exec", &[format!("not_granted: {}", script.display())]);
        let ran = ebpf_alone_denies(&scene, &attempts, &script_only, &both);
        ran.denied("exec", &[format!("not_granted: {}", shell.display())]);
    }

    #[test]
    fn a_program_that_the_skill_writes_is_not_executed() {
        let scene = Scene::new("dropped");
        let tree = scene.folder("tree");
        let dropped = tree.join("dropped");
        let manifest = Manifest::default().both(&tree).exec("/usr/bin");
        let copy = format!(
            "cp /usr/bin/true {0} && chmod +x {0} && {0}",
            dropped.display()
        );
        let outside = std::process::Command::new("sh")
            .args(["-c", &copy])
            .status();
        assert!(outside.is_ok_and(|status| status.success()), "before");
        fs::remove_file(&dropped).expect("the copy to remove");
        let ran = Run::shell(&scene, &manifest, &copy).by_ebpf_alone().end();
        let ran = ran.with_code(126);
        ran.denied("exec", &[format!("not_granted: {}", dropped.display())]);
        let granting = manifest.exec(&dropped);
        let ran = Run::shell(&scene, &granting, &dropped.display().to_string());
        let _after = ran.by_ebpf_alone().end().with_code(0);
    }
}
