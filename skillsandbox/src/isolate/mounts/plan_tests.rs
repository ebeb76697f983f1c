use super::*;
use crate::isolate::launch::{Grant, Private};

pub(in super::super) fn launch(grants: &[(&str, u16)]) -> Launch {
    Launch {
        hostname: String::new(),
        program: "/usr/bin/true".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
        workdir: SKILL.into(),
        uid: 1,
        gid: 1,
        as_caller: false,
        runtime: Runtime::System,
        grants: grants
            .iter()
            .map(|&(path, access)| Grant {
                path: path.into(),
                access,
            })
            .collect(),
        links: Vec::new(),
        unix_sockets: Vec::new(),
        denies: vec!["/data/secret".into()],
        private: Private::default(),
        etc_files: Vec::new(),
        limits: crate::isolate::limits::Limits::default(),
        ports: crate::isolate::landlock::Ports::default(),
        seccomp: crate::isolate::seccomp::Profile::Default,
        require_landlock: false,
        #[cfg(feature = "test-layers")]
        without: Vec::new(),
    }
}

fn mount(launch: &Launch, at: &str) -> Option<Planned> {
    plan(launch)
        .unwrap()
        .into_iter()
        .rfind(|mount| mount.at == Path::new(at))
}

#[test]
fn a_folder_comes_before_what_is_in_it() {
    let plan = plan(&launch(&[("/data/in/it", 1), ("/data", 1)])).unwrap();
    let position = |at: &str| plan.iter().position(|mount| mount.at == Path::new(at));
    assert!(position("/data").is_some());
    assert!(position("/data") < position("/data/in/it"));
    assert!(position("/data") < position("/data/secret"));
}

#[test]
fn reading_is_read_only_and_writing_makes_folders() {
    let launch = launch(&[
        ("/data", Access::READ),
        ("/out", Access::READ | Access::WRITE),
    ]);
    let data = mount(&launch, "/data").unwrap();
    assert_eq!(data.source, Source::Host);
    assert!(data.attributes.contains(RDONLY | NOSUID | NODEV | NOEXEC));
    let out = mount(&launch, "/out").unwrap();
    assert_eq!(out.source, Source::HostOrNew);
    assert!(!out.attributes.contains(RDONLY));
    assert!(out.attributes.contains(NOSUID | NODEV | NOEXEC));
}

#[test]
fn what_a_folder_grants_holds_below_it() {
    let launch = launch(&[("/out", Access::WRITE), ("/out/in", Access::READ)]);
    assert!(
        !mount(&launch, "/out/in")
            .unwrap()
            .attributes
            .contains(RDONLY)
    );
}

#[test]
fn only_a_granted_program_makes_a_mount_executable() {
    let with = launch(&[("/skill/run.sh", Access::EXEC), ("/opt/x", Access::EXEC)]);
    assert!(!mount(&with, SKILL).unwrap().attributes.contains(NOEXEC));
    assert!(!mount(&with, "/opt/x").unwrap().attributes.contains(NOEXEC));
    assert!(mount(&with, "/tmp").unwrap().attributes.contains(NOEXEC));
    assert!(
        mount(&launch(&[]), SKILL)
            .unwrap()
            .attributes
            .contains(NOEXEC)
    );
}

#[test]
fn the_runtime_is_not_mounted_twice() {
    let launch = launch(&[("/usr/bin/python3.13", Access::EXEC)]);
    assert_eq!(mount(&launch, "/usr/bin/python3.13"), None);
}

#[test]
fn too_much_is_refused() {
    for path in ["/", "/etc", "/dev", "/proc", "/proc/1", "data", "/a/../b"] {
        assert!(plan(&launch(&[(path, Access::READ)])).is_err(), "{path}");
    }
    assert!(plan(&launch(&[("/skill/out", Access::WRITE)])).is_err());
}

#[test]
fn a_grant_below_a_denied_path_is_not_mounted() {
    assert_eq!(
        mount(
            &launch(&[("/data/secret/x", Access::READ)]),
            "/data/secret/x"
        ),
        None
    );
}
