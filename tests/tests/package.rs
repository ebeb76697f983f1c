//! The Debian package, in root file systems of the releases that it is for.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A root file system, unpacked, which goes when it is dropped.
struct Root {
    folder: PathBuf,
}

impl Root {
    fn of(release: &str) -> Self {
        let id = std::process::id();
        let folder = PathBuf::from(format!("/var/tmp/skillsandbox-root-{release}-{id}"));
        fs::create_dir(&folder).expect("a new folder");
        let archive = path("ROOTS").join(format!("{release}.tar"));
        let unpacked = Command::new("tar")
            .arg("-C")
            .arg(&folder)
            .arg("-xf")
            .arg(archive)
            .status();
        assert!(unpacked.expect("tar").success());
        Self { folder }
    }

    /// Runs a shell in it, in namespaces of its own: what the package does is not to reach this host.
    fn output(&self, script: &str) -> Output {
        Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--net",
                "chroot",
            ])
            .arg(&self.folder)
            .args(["sh", "-ec", &format!("mount -t proc proc /proc; {script}")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .expect("unshare")
    }

    #[track_caller]
    fn sh(&self, script: &str) -> String {
        let output = self.output(script);
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (words(&output.stdout), words(&output.stderr));
        assert!(output.status.success(), "{script}: {out}{err}");
        out
    }

    fn has(&self, path: &str) -> bool {
        self.folder
            .join(path.trim_start_matches('/'))
            .symlink_metadata()
            .is_ok()
    }

    /// Puts this package's file in it, as of another version if that is named.
    fn bring(&self, version: Option<&str>) {
        let package = path("PACKAGE");
        let to = self.folder.join("new.deb");
        let Some(version) = version else {
            fs::copy(package, to).expect("a copy of the package");
            return;
        };
        let script = "dpkg-deb -R \"$1\" \"$2\" && sed -i \"s/^Version: .*/Version: $3/\" \"$2/DEBIAN/control\" \
                      && dpkg-deb -Znone --root-owner-group -b \"$2\" \"$4\" && rm -r \"$2\"";
        let opened = self.folder.join("opened");
        let made = Command::new("sh")
            .args(["-ec", script, "sh"])
            .arg(package)
            .arg(opened)
            .arg(version)
            .arg(to)
            .output()
            .expect("a shell");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _gone = Command::new("rm").arg("-rf").arg(&self.folder).status();
    }
}

fn path(variable: &str) -> PathBuf {
    let path = env::var_os(variable);
    PathBuf::from(
        path.unwrap_or_else(|| {
            panic!("{variable} is not set: run these tests by `cargo xtask test`")
        }),
    )
}

fn installs_upgrades_and_goes(release: &str) {
    let root = Root::of(release);
    root.bring(None);
    root.sh("dpkg -i /new.deb");
    let version = root.sh("skillsandbox --version");
    assert!(version.starts_with("skillsandbox "), "{version}");
    let groups = root.sh("getent group skillsandbox skillsandbox-audit");
    assert_eq!(groups.lines().count(), 2, "{groups}");
    let folders =
        root.sh("stat -c '%a %U %G' /etc/skillsandbox/policies /var/lib/skillsandbox/audit");
    assert_eq!(folders, "755 root root\n750 root skillsandbox-audit\n");
    assert_eq!(
        root.sh("dpkg -V skillsandbox; find / -xdev -user 1000 -o -xdev -group 1000"),
        ""
    );
    for file in [
        "/usr/share/man/man1/skillsandbox-run.1.gz",
        "/usr/share/bash-completion/completions/skillsandbox",
        "/usr/share/doc/skillsandbox/hosts.md",
        "/usr/share/doc/skillsandbox/copyright",
    ] {
        assert!(root.has(file), "{file}");
    }
    root.sh("systemd-analyze verify --man=no skillsandbox.service");
    assert!(!root.has("/etc/systemd/system/multi-user.target.wants/skillsandbox.service"));
    root.sh("systemctl enable skillsandbox.service");
    root.sh("skillsandbox validate /usr/share/doc/skillsandbox/examples/agent.yaml");

    root.sh(
        "cp /usr/share/doc/skillsandbox/examples/agent.yaml /etc/skillsandbox/policies/mine.yaml",
    );
    root.sh("echo kept > /var/lib/skillsandbox/audit/record");
    root.bring(Some("99.0"));
    root.sh("dpkg -i /new.deb");
    assert_eq!(
        root.sh("dpkg-query -W -f '${Version}' skillsandbox"),
        "99.0"
    );
    assert_eq!(
        root.sh("getent group skillsandbox skillsandbox-audit"),
        groups
    );
    assert!(root.has("/etc/skillsandbox/policies/mine.yaml"));

    root.sh("dpkg -r skillsandbox");
    assert!(!root.has("/usr/bin/skillsandbox"));
    assert!(
        root.has("/etc/skillsandbox/policies/mine.yaml"),
        "what was configured stays"
    );
    let said = root.sh("dpkg -P skillsandbox");
    assert!(!root.has("/etc/skillsandbox"));
    assert!(
        said.contains("the audit store in /var/lib/skillsandbox stays"),
        "{said}"
    );
    assert_eq!(root.sh("cat /var/lib/skillsandbox/audit/record"), "kept\n");
    let left = root.sh("find / -xdev -name '*skillsandbox*'");
    for line in left.lines() {
        let known = [
            "/var/lib/skillsandbox",
            "/etc/systemd/system/multi-user.target.wants/skillsandbox.service",
        ];
        assert!(known.contains(&line), "{line}");
    }
}

#[test]
fn the_package_installs_upgrades_and_goes_on_debian_12() {
    installs_upgrades_and_goes("bookworm");
}

#[test]
fn the_package_installs_upgrades_and_goes_on_debian_13() {
    installs_upgrades_and_goes("trixie");
}

#[test]
fn what_was_never_used_leaves_nothing_behind() {
    let root = Root::of("bookworm");
    root.bring(None);
    root.sh("dpkg -i /new.deb && dpkg -P skillsandbox");
    for folder in ["/var/lib/skillsandbox", "/etc/skillsandbox"] {
        assert!(!root.has(folder), "{folder}");
    }
    assert_eq!(root.sh("find / -xdev -name '*skillsandbox*'"), "");
}

/// The daemon of the unit has no more capabilities than the unit says.
#[test]
fn the_daemon_needs_no_capability_that_the_unit_does_not_name() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/skillsandbox.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let kept: Vec<String> = line
        .expect("a line of capabilities")
        .split(' ')
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let bounding = format!("--bounding-set=-all,{}", kept.join(","));
    let scene = skillsandbox_tests::scene::Scene::new("unit");
    let manifest = scene.path("manifest.yaml");
    let granted = scene.folder("shared");
    let text = skillsandbox_tests::manifest::Manifest::default()
        .write(granted.join("made"))
        .exec("/usr/bin")
        .0
        .to_string();
    fs::write(&manifest, text).expect("a manifest");
    let run = |bounding: &str| {
        Command::new("setpriv")
            .arg(bounding)
            .arg("--no-new-privs")
            .arg(skillsandbox_tests::sandbox::skillsandbox().get_program())
            .args(["run", "--user=43001", "--audit-dir"])
            .arg(scene.path("audit"))
            .arg("--manifest")
            .arg(&manifest)
            .args(["--", "sh", "-c", "id -u && touch \"$0/made/x\""])
            .arg(&granted)
            .output()
            .expect("setpriv")
    };
    let ran = run(&bounding);
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{err}");
    assert_eq!(ran.stdout, b"43001\n");
    assert!(granted.join("made/x").exists());
    // The list means something: without the first of it nothing starts.
    let without = run("--bounding-set=-all,+setuid,+setgid,+dac_override");
    assert_ne!(without.status.code(), Some(0));
}
