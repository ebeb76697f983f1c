//! What a skill does not get from its caller, on both tiers and with all layers on.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;
use skillsandbox_tests::{attempts, manifest::Manifest, sandbox::Run, scene::Scene};

/// A value that occurs nowhere else.
const VALUE: &str = "b7e6c0f1-not-for-the-skill";

#[test]
fn a_file_that_is_not_granted_does_not_exist() {
    let scene = Scene::new("ungranted");
    let (granted, other) = (scene.file("granted/file"), scene.file("other/file"));
    let attempts = attempts!(
        ["read", other],
        ["write", other],
        ["read", "/proc/self/root/etc/shadow"],
        ["read", granted],
        ["write", granted],
    );
    let attempts_outside = attempts!(["read", other], ["write", other], ["write", granted]);
    attempts_outside.outside(&scene).all_ok("before, outside");
    let manifest = Manifest::default().read(scene.path("granted"));
    let ran = Run::probe(&scene, &manifest, &attempts).end();
    ran.endings(&attempts).are(
        // Mounts answer before eBPF is asked.
        &["ENOENT", "ENOENT", "ENOENT", "ok", "EROFS"],
        "in the sandbox",
    );
    assert_eq!(fs::read_to_string(&granted).expect("the file"), "written\n");
    let both = manifest.both(scene.path("other")).write(&granted);
    let after = attempts!(["read", other], ["write", other], ["write", granted]);
    let ran = Run::probe(&scene, &both, &after).end();
    ran.endings(&after).all_ok("after, granted");
}

#[test]
fn a_file_that_may_be_written_may_not_be_read_and_the_other_way_round() {
    let scene = Scene::new("oneway");
    let (read, write) = (scene.file("in/file"), scene.file("out/file"));
    let denied = attempts!(
        ["read", write],
        ["list", scene.path("out")],
        ["write", read]
    );
    let granted = attempts!(["read", read], ["write", write]);
    denied.outside(&scene).all_ok("before, outside");
    let apart = Manifest::default()
        .read(scene.path("in"))
        .write(scene.path("out"));
    let ran = Run::probe(&scene, &apart, &denied).end();
    ran.endings(&denied).none_ok("in the sandbox");
    let ran = Run::probe(&scene, &apart, &granted).end();
    ran.endings(&granted).all_ok("what is granted");
    let both = apart.write(scene.path("in")).read(scene.path("out"));
    let ran = Run::probe(&scene, &both, &denied).end();
    ran.endings(&denied).all_ok("after, granted");
}

#[test]
fn variables_are_withheld_unless_granted_and_values_are_on_no_record() {
    let scene = Scene::new("variables");
    let run = |manifest: &Manifest| {
        let mut run = Run::shell(&scene, manifest, "env; cat /proc/self/environ");
        run.command().env("SECRET_TOKEN", VALUE);
        run.option("--watch").end().with_code(0)
    };
    let withheld = run(&Manifest::default());
    assert!(!withheld.output().contains(VALUE));
    assert!(!withheld.output().contains("SECRET_TOKEN"));
    let granted = run(&Manifest::default().pass("SECRET_TOKEN"));
    assert!(granted.output().contains(&format!("SECRET_TOKEN={VALUE}")));
    let set = json!({"SECRET_TOKEN": VALUE});
    let set = run(&Manifest::default().set("/permissions/env_vars/set", set));
    assert!(set.output().contains(&format!("SECRET_TOKEN={VALUE}")));
    for (ran, list) in [(withheld, "withheld"), (granted, "passed"), (set, "set")] {
        for text in [&ran.events_text, &ran.trace_text, &ran.stderr] {
            assert!(!text.is_empty());
            assert!(!text.contains(VALUE), "{list}: {text}");
        }
        let note = ran
            .of_kind("environment")
            .next()
            .expect("a note on the environment");
        let names = note[list].as_array().expect("a list of names");
        assert!(names.contains(&json!("SECRET_TOKEN")), "{note}");
        assert_eq!(ran.trace()["environment"][list], note[list]);
    }
}

#[test]
fn nobodys_environment_or_memory_is_to_be_read_in_proc() {
    let scene = Scene::new("proc");
    let script = "for file in environ cmdline maps mem root/etc/shadow; do \
                      for folder in /proc/[0-9]*; do \
                          case $folder in /proc/$$) ;; *) cat $folder/$file;; esac; \
                      done; \
                  done 2>/dev/null; cat /proc/$PPID/environ /proc/1/environ; true";
    let mut outside = Command::new("sh");
    let outside = outside.args(["-c", "cat /proc/$PPID/environ"]).output();
    assert!(
        !outside.expect("a shell").stdout.is_empty(),
        "before, outside"
    );
    let mut run = Run::shell(&scene, &Manifest::default(), script);
    run.command().env("SECRET_TOKEN", VALUE);
    let ran = run.end().with_code(0);
    assert_eq!(ran.output(), "");
    assert!(ran.stderr.contains("/proc/1/environ"), "{}", ran.stderr);
}

#[test]
fn inherited_descriptors_are_closed() {
    let scene = Scene::new("inherited");
    let secret = scene.file("secret");
    let around = format!(
        "exec 7<{0} 8<{1} 9>>{0}; exec \"$@\"",
        secret.display(),
        "/"
    );
    let listing = "cat <&7; cat /proc/self/fd/8/etc/hostname; ls /proc/$$/fd";
    let outside = Command::new("sh")
        .args(["-c", &around, "sh", "sh", "-c", "cat <&7; ls /proc/$$/fd"])
        .output()
        .expect("a shell");
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    assert!(
        outside.contains("content") && outside.contains("\n9\n"),
        "before: {outside}"
    );
    let run =
        Run::shell(&scene, &Manifest::default(), listing).around(&["sh", "-c", &around, "sh"]);
    assert_eq!(run.end().with_code(0).output(), "0\n1\n2\n");
}

#[test]
fn standard_input_is_empty_unless_asked_for() {
    let scene = Scene::new("stdin");
    for (options, expected) in [(&[][..], ""), (&["--stdin"][..], VALUE)] {
        let mut run = Run::shell(&scene, &Manifest::default(), "cat");
        for option in options {
            run = run.option(option);
        }
        run.command().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = run.start();
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(VALUE.as_bytes()).expect("room in a pipe");
        drop(stdin);
        let ran = run.read(child.wait_with_output().expect("an end"));
        assert_eq!(ran.with_code(0).output(), expected, "{options:?}");
    }
}

#[test]
fn a_skill_is_not_root_and_has_no_way_to_be() {
    let scene = Scene::new("identity");
    let script = "cat /proc/self/status; id -u; id -G";
    for (options, id) in [(&[][..], "65534"), (&["--user", "daemon"][..], "1")] {
        let mut run = Run::shell(&scene, &Manifest::default(), script);
        run.command().env_remove("SUDO_UID").env_remove("SUDO_GID");
        for option in options {
            run = run.option(option);
        }
        let output = run.end().with_code(0).output();
        let field = |name: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {output}"))
                .trim()
                .to_owned()
        };
        assert_eq!(field("Uid:"), [id; 4].join("\t"));
        assert_eq!(field("Gid:"), [id; 4].join("\t"));
        assert_eq!(field("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0".repeat(16), "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("Seccomp:"), "2");
        assert!(output.ends_with(&format!("{id}\n{id}\n")), "{output}");
    }
    let root = Run::shell(&scene, &Manifest::default(), script).option("--user=root");
    assert_eq!(root.end().with_code(122).output(), "");
}

#[test]
fn home_and_temporary_folders_exist_and_are_the_sandboxs_own() {
    let scene = Scene::new("home");
    let name = format!("mark-{}", std::process::id());
    let script = format!(
        "for folder in $HOME $TMPDIR $XDG_CACHE_HOME $XDG_CONFIG_HOME $XDG_DATA_HOME \
         $XDG_STATE_HOME $XDG_RUNTIME_DIR; do mkdir -p $folder && echo x > $folder/{name} || exit 9; done; \
         test ! -e $HOME/../../var/tmp && echo made"
    );
    let ran = Run::shell(&scene, &Manifest::default(), &script).end();
    assert_eq!(ran.with_code(0).output(), "made\n");
    assert!(!std::path::Path::new("/tmp").join(&name).exists());
    let again = format!("ls $HOME/{name} $TMPDIR/{name}");
    let ran = Run::shell(&scene, &Manifest::default(), &again).end();
    assert_eq!(
        ran.with_code(2).output(),
        "",
        "a later run sees an earlier one's files"
    );
}

mod kernel_tier {
    use std::{
        os::unix::process::CommandExt,
        process::{Command, Stdio},
    };

    use skillsandbox_tests::{
        attempts, attempts::NOBODY, manifest::Manifest, sandbox::Run, scene::Scene,
    };

    #[test]
    fn a_process_outside_is_not_looked_into_even_where_it_is_in_sight() {
        let scene = Scene::new("outsider");
        let mut outsider = Command::new("sleep")
            .arg("600")
            .env("TOKEN", super::VALUE)
            .stdin(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY)
            .spawn()
            .expect("a process outside");
        let place = format!("/proc/{}", outsider.id());
        let attempts = attempts!(
            ["read", format!("{place}/environ")],
            ["read", format!("{place}/maps")],
        );
        attempts.outside(&scene).all_ok("before, outside");
        // Without mounts the host's /proc is there, and every process of the host in it.
        let ran = Run::probe(&scene, &Manifest::default(), &attempts)
            .by_ebpf_alone()
            .end();
        let endings = ran.endings(&attempts);
        attempts.outside(&scene).all_ok("after, outside");
        outsider
            .kill()
            .and_then(|()| outsider.wait())
            .expect("its end");
        // The file system says so to whoever may not look.
        endings.all("EACCES", "in the sandbox");
        let refused: Vec<_> = ran.of_kind("ptrace").collect();
        assert_eq!(refused.len(), 2, "{refused:#?}");
        for event in refused {
            assert_eq!(event["reason"], "outside_process");
            assert_eq!(event["target"], outsider.id());
        }
    }

    #[test]
    fn a_process_of_the_sandbox_is_looked_into_by_another() {
        let scene = Scene::new("insider");
        let script = "sleep 60 & sleep 1; tr '\\0' '\\n' < /proc/$!/environ | grep -c . ; kill $!";
        let manifest = Manifest::default().pass("PATH");
        let ran = Run::shell(&scene, &manifest, script).end().with_code(0);
        let count: u32 = ran.output().trim().parse().expect("a number of variables");
        assert!(count > 0);
        assert_eq!(ran.of_kind("ptrace").count(), 0);
    }
}
