//! The command lines of a guest and of the programs that show it the host's files.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::VmRequest;
use super::kernels::Series;

/// The names of the sockets through which the guest answers. Their order is that of the ports.
pub(crate) const PORTS: [&str; 3] = ["stdout", "stderr", "status"];

const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
/// Memory that the guest touches is all that the host gives, so this may be generous.
const MEMORY: &str = "4G";
/// All that the emulator can do, but for two things. Its `cmpxchg16b` leaves garbage in the flags,
/// on which the kernel dies with a double fault if an interrupt comes just then (QEMU 7.2; seen in
/// three boots of four with `quiet`). A fifth level of page tables only costs time.
const CPU: &str = "max,-cx16,-la57";
/// The BPF security module is compiled into Debian's kernels, but off unless it is asked for. After
/// an oops nothing that a test says is worth anything: stop. What the emulator has made of a program's
/// code serves the next process only at the same addresses.
/// Programs are attached and taken off in a sixth less of the time where nobody waits for processors to be idle.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 oops=panic mitigations=off norandmaps \
                                rcupdate.rcu_expedited=1 random.trust_cpu=on \
                                lsm=bpf,landlock,lockdown,yama";

/// Linux 7 allocates the programs' task storage with `kmalloc_nolock`, which on a processor without
/// `cmpxchg16b` serves only caches that are checked for consistency.
const WITHOUT_CMPXCHG16B: &str = "slab_debug=F,kmalloc-*";

/// The server that shows `source` to the guest through `socket`.
pub(crate) fn file_server(source: &Path, socket: &Path) -> Command {
    let mut command = tied(VIRTIOFSD);
    command.arg(joined("--socket-path=", socket));
    command.arg("-o").arg(joined("source=", source));
    // A change of the root folder suffices: the server is as trusted as we are.
    command.args(["-o", "sandbox=chroot", "-o", "xattr", "-o", "log_level=err"]);
    // Else the guest forgets what it has of a file whenever it opens it, and the emulator what it has
    // made of the code there: every program would be read and translated anew, ten times as slow.
    command.args(["-o", "cache=always"]);
    command
}

/// The guest. `folder` holds the archive and all sockets; kernel messages go to `log`.
pub(crate) fn guest(request: &VmRequest, kernel: &Path, folder: &Path, log: &Path) -> Command {
    let mut qemu = tied("qemu-system-x86_64");
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    qemu.args([
        "-machine",
        "q35,memory-backend=memory",
        "-cpu",
        CPU,
        "-m",
        MEMORY,
    ]);
    qemu.args([
        "-object",
        &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"),
    ]);
    // One thread for all processors. With a thread each, one executes for a while the breakpoint that
    // another has put into the kernel's code and taken out again, and the kernel dies of it ("Oops:
    // int3", QEMU 7.2): it patches its code whenever a BPF program is attached.
    qemu.args(["-accel", "tcg,thread=single"]);
    if request.icount {
        // The guest's clock counts instructions.
        qemu.args(["-icount", "shift=0"]);
    }
    // A processor that waits for another counts its own waiting, so there can be no other.
    let cpus = if request.icount { 1 } else { request.cpus };
    qemu.args(["-smp", &cpus.to_string()]);
    qemu.arg("-kernel").arg(kernel);
    qemu.arg("-initrd").arg(folder.join("initrd"));
    let for_series = match request.series {
        Series::V7 => WITHOUT_CMPXCHG16B,
        Series::V6_1 | Series::V6_12 => "",
    };
    let arguments = format!("{KERNEL_ARGUMENTS} {for_series} {}", request.append);
    qemu.args(["-append", &arguments]);
    qemu.arg("-serial").arg(joined("file:", log));

    // The first device, as the guest names its ports after the device's number.
    qemu.args(["-device", "virtio-serial-pci"]);
    for tag in ["host", "share"] {
        let socket = folder.join(tag);
        if socket.exists() {
            qemu.arg("-chardev")
                .arg(joined(&format!("socket,id={tag},path="), &socket));
            qemu.args([
                "-device",
                &format!("vhost-user-fs-pci,chardev={tag},tag={tag}"),
            ]);
        }
    }
    for (port, name) in (1..).zip(PORTS) {
        let socket = folder.join(name);
        qemu.arg("-chardev")
            .arg(joined(&format!("socket,id={name},path="), &socket));
        qemu.args([
            "-device",
            &format!("virtserialport,nr={port},chardev={name},name={name}"),
        ]);
    }
    qemu
}

/// A command that dies with us, however we die.
fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(option);
    joined.push(path);
    joined
}
