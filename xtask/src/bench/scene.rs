//! What is measured on: a file to open, a program to run, an address, and a skill that may use them.

use std::fs::{self, DirBuilder, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// A program that ends at once: an ELF header, one segment, and `exit(0)`.
const NOTHING: [u8; 132] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\
    \x02\0\x3e\0\x01\0\0\0\x78\0\x40\0\0\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\
    \x01\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\
    \x84\0\0\0\0\0\0\0\x84\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\
    \xb8\x3c\0\0\0\x31\xff\x0f\x05\x90\x90\x90";
/// An address that the skill may reach. Nothing listens there.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// One kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Open,
    Udp,
    Tcp,
    Exec,
}

impl Operation {
    /// The workload's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Exec => "exec",
        }
    }

    /// What it is to a reader.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Open => "open + close of a file 3 levels deep",
            Self::Udp => "connect of a UDP socket to an allowed address",
            Self::Tcp => "connect of a TCP socket to an allowed address where nothing listens",
            Self::Exec => "fork + exec + wait of a static program that ends at once",
        }
    }

    /// The system call that a peer is asked to watch.
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::Open => "openat",
            Self::Udp | Self::Tcp => "connect",
            Self::Exec => "execve",
        }
    }

    /// The kind of our events.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Udp | Self::Tcp => "connect",
            Self::Exec => "exec",
        }
    }
}

/// The layers to leave out so that nothing but eBPF is left.
pub(super) const EBPF_ALONE: &str = "iptables,mounts,landlock,seccomp";

/// Files in `/tmp`, gone when this is dropped.
pub(super) struct Scene {
    folder: PathBuf,
    output: PathBuf,
}

impl Scene {
    /// Makes them. The folder is readable for the skill's user.
    pub(super) fn make(workload: &Path) -> Result<Self> {
        let name = format!("skillsandbox-bench-{}", std::process::id());
        let scene = Self {
            folder: Path::new("/tmp").join(&name),
            // In memory, for us as for every peer: a disk is not what is measured.
            output: Path::new("/dev/shm").join(&name),
        };
        let mut builder = DirBuilder::new();
        builder.mode(0o755).recursive(true);
        builder.create(scene.folder.join("skill"))?;
        builder.create(&scene.output)?;
        fs::write(scene.folder.join("file"), "content\n")?;
        let nothing = scene.folder.join("nothing");
        fs::write(&nothing, NOTHING)?;
        fs::set_permissions(&nothing, Permissions::from_mode(0o755))?;
        let copy = scene.folder.join("skill/workload");
        fs::copy(workload, copy).with_context(|| format!("no {}", workload.display()))?;
        let skill = scene.skill();
        fs::write(skill.join("skillsandbox.yaml"), scene.manifest("/skill", 1))?;
        // Without mounts the skill's folder is where it is on the host.
        let unmounted = scene.manifest(&skill.display().to_string(), 1);
        fs::write(skill.join("unmounted.yaml"), unmounted)?;
        Ok(scene)
    }

    /// A manifest with so many rules on addresses. The last is the one that is used.
    pub(super) fn among(&self, rules: usize) -> Result<PathBuf> {
        let path = self.output(&format!("among-{rules}.yaml"));
        if !path.exists() {
            fs::write(&path, self.manifest("/skill", rules))?;
        }
        Ok(path)
    }

    fn manifest(&self, skill: &str, rules: usize) -> String {
        let folder = self.folder.display();
        // Scattered over all addresses but the first half of them, where loopback is.
        let others = (1_u32..).map(|number| number.wrapping_mul(0x9e37_79b1) | 1 << 31);
        let others: Vec<_> = others
            .take(rules - 1)
            .map(|bits| format!("{{ cidr: {}/32 }}, ", Ipv4Addr::from_bits(bits)))
            .collect();
        let others = others.concat();
        format!(
            "skill: {{ name: bench, version: \"1\" }}\n\
             permissions:\n  \
               network: {{ egress: [{others}{{ cidr: {}/32, ports: [{}], protocol: any }}] }}\n  \
               filesystem: {{ read: [{folder}] }}\n  \
               exec: {{ allow: [{folder}/nothing, /usr/bin/true] }}\n\
             resources: {{ max_runtime_seconds: 600, cpu_shares: 1024 }}\n\
             entrypoint: {{ command: {skill}/workload, workdir: {skill} }}\n",
            ADDRESS.ip(),
            ADDRESS.port(),
        )
    }

    /// The folder of the skill.
    pub(super) fn skill(&self) -> PathBuf {
        self.folder.join("skill")
    }

    /// A file for what a recorder writes.
    pub(super) fn output(&self, name: &str) -> PathBuf {
        self.output.join(name)
    }

    /// What the operation is done to.
    pub(super) fn object(&self, operation: Operation) -> String {
        let file = |name| self.folder.join(name).display().to_string();
        match operation {
            Operation::Open => file("file"),
            Operation::Exec => file("nothing"),
            Operation::Udp | Operation::Tcp => ADDRESS.to_string(),
        }
    }

    /// The workload's arguments.
    pub(super) fn arguments(&self, operation: Operation, count: u64, batch: u64) -> [String; 4] {
        [
            operation.word().to_owned(),
            self.object(operation),
            count.to_string(),
            batch.to_string(),
        ]
    }

    /// The workload, outside of any sandbox.
    pub(super) fn bare(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(self.skill().join("workload"));
        command.args(arguments);
        command
    }

    /// The workload in a sandbox that lacks some layers.
    pub(super) fn without(
        &self,
        program: &Path,
        layers: &str,
        events: &Path,
        trace: &Path,
        arguments: &[String],
    ) -> Command {
        let mut command = Command::new(program);
        command.args(["run", "--without-layer", layers, "--events"]);
        command.arg(events).arg("--trace-output").arg(trace);
        if layers.contains("mounts") {
            let manifest = self.skill().join("unmounted.yaml");
            command.arg("--manifest").arg(manifest);
        }
        command.arg(self.skill()).args(arguments);
        command
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir_all(&self.output);
    }
}
