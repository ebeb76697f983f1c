//! Who the skill runs as, and giving up everything above that for good.

use rustix::process::{getgid, getgroups, getuid};
use rustix::thread::{
    CapabilitiesSecureBits as SecureBits, CapabilitySet, CapabilitySets, Gid, Uid,
};

use super::error::{IsolateError, Result, Step};
use super::report::{Layer, LayerReport, Status};

/// The user that the skill runs as. Never uid 0 or gid 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Where an identity may come from, in this order.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `--user`: a name or a number.
    pub user: Option<String>,
    /// `SUDO_UID` and `SUDO_GID`: the caller behind sudo.
    pub sudo: Option<(String, String)>,
}

const OVERFLOW: u32 = 65534;

impl Wanted {
    /// Chooses the identity; `passwd` is the content of `/etc/passwd`.
    pub fn resolve(&self, passwd: &str) -> Result<Identity> {
        let identity = match (&self.user, &self.sudo) {
            (Some(user), _) => named(user, passwd)?,
            (None, Some((uid, gid))) if uid != "0" => numbered(uid, gid)?,
            _ => entry(passwd, |name, _| name == "nobody").unwrap_or(Identity {
                uid: OVERFLOW,
                gid: OVERFLOW,
            }),
        };
        if identity.uid == 0 || identity.gid == 0 {
            return Err(IsolateError::refused(
                format!(
                    "a skill does not run as uid {} gid {}",
                    identity.uid, identity.gid
                ),
                "name an ordinary user with --user",
            ));
        }
        Ok(identity)
    }
}

fn named(user: &str, passwd: &str) -> Result<Identity> {
    if let Ok(uid) = user.parse() {
        let known = entry(passwd, |_, number| number == uid);
        return Ok(known.unwrap_or(Identity { uid, gid: uid }));
    }
    entry(passwd, |name, _| name == user).ok_or_else(|| {
        IsolateError::refused(
            format!("user {user:?} is not in /etc/passwd"),
            "give its number instead",
        )
    })
}

fn numbered(uid: &str, gid: &str) -> Result<Identity> {
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(Identity { uid, gid }),
        _ => Err(IsolateError::refused(
            format!("SUDO_UID={uid:?} SUDO_GID={gid:?} are not numbers"),
            "name the user with --user",
        )),
    }
}

/// The first line of passwd(5) whose name and uid satisfy `wanted`.
fn entry(passwd: &str, wanted: impl Fn(&str, u32) -> bool) -> Option<Identity> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        wanted(name, uid).then_some(Identity { uid, gid })
    })
}

fn capabilities() -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

/// Uid 0 means nothing, a change of user gives and takes no capability, none is kept over it and
/// none becomes ambient; and all of that for good. The capabilities are therefore dropped by name.
fn secure_bits() -> SecureBits {
    SecureBits::NO_ROOT
        | SecureBits::NO_ROOT_LOCKED
        | SecureBits::NO_SETUID_FIXUP
        | SecureBits::NO_SETUID_FIXUP_LOCKED
        | SecureBits::KEEP_CAPS_LOCKED
        | SecureBits::NO_CAP_AMBIENT_RAISE
        | SecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
}

/// Becomes `identity` with no capability in any set, and locks the way back.
pub(super) fn drop_to(identity: Identity) -> Result<LayerReport> {
    // Only root with CAP_SETPCAP may do the first three, so they come before the user changes.
    for capability in capabilities() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error).step("drop the capability bounding set"),
        }
    }
    rustix::thread::clear_ambient_capability_set().step("clear the ambient capabilities")?;
    rustix::thread::set_capabilities_secure_bits(secure_bits()).step("lock the secure bits")?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_groups(&[]).step("leave the supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).step("change the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step("change the user")?;
    let nothing = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, nothing).step("drop the capabilities")?;
    rustix::thread::set_no_new_privs(true).step("set no_new_privs")?;
    verify(identity)
}

/// Asks the kernel what is left, and tries to go back.
fn verify(identity: Identity) -> Result<LayerReport> {
    let broken = |what: &str| {
        IsolateError::refused(
            format!("dropping privileges did not hold: {what}"),
            "report this with the kernel's version",
        )
    };
    if getuid().as_raw() != identity.uid || getgid().as_raw() != identity.gid {
        return Err(broken("the user is not the one asked for"));
    }
    if rustix::thread::set_thread_uid(Uid::ROOT).is_ok() {
        return Err(broken("uid 0 can be taken back"));
    }
    if !getgroups().step("read the groups")?.is_empty() {
        return Err(broken("supplementary groups are left"));
    }
    let left = rustix::thread::capabilities(None).step("read the capabilities")?;
    if !(left.effective | left.permitted | left.inheritable).is_empty() {
        return Err(broken("capabilities are left"));
    }
    let any = |is_in: fn(CapabilitySet) -> rustix::io::Result<bool>| {
        capabilities().map(is_in).any(|answer| answer == Ok(true))
    };
    if any(rustix::thread::capability_is_in_bounding_set) {
        return Err(broken("capabilities are left in the bounding set"));
    }
    if any(rustix::thread::capability_is_in_ambient_set) {
        return Err(broken("ambient capabilities are left"));
    }
    let bits = rustix::thread::capabilities_secure_bits().step("read the secure bits")?;
    if bits != secure_bits() {
        return Err(broken(&format!("the secure bits are {bits:?}")));
    }
    if !rustix::thread::no_new_privs().step("read no_new_privs")? {
        return Err(broken("no_new_privs is not set"));
    }
    Ok(LayerReport::new(
        Layer::Privileges,
        Status::Enforced,
        format!(
            "uid {} gid {}, no groups, no capabilities in any of the five sets, secure bits {:#x} \
             locked, no_new_privs, no way back to uid 0",
            identity.uid,
            identity.gid,
            bits.bits()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          ana:x:1000:1001:Ana:/home/ana:/bin/sh\n\
                          nobody:x:65533:65532:nobody:/:/usr/sbin/nologin\n";

    fn resolve(user: Option<&str>, sudo: Option<(&str, &str)>) -> Result<Identity> {
        Wanted {
            user: user.map(Into::into),
            sudo: sudo.map(|(uid, gid)| (uid.into(), gid.into())),
        }
        .resolve(PASSWD)
    }

    #[test]
    fn the_named_user_wins_over_the_caller_behind_sudo() {
        let ana = Identity {
            uid: 1000,
            gid: 1001,
        };
        assert_eq!(resolve(Some("ana"), Some(("7", "8"))).unwrap(), ana);
        assert_eq!(resolve(Some("1000"), None).unwrap(), ana);
        assert_eq!(
            resolve(None, Some(("7", "8"))).unwrap(),
            Identity { uid: 7, gid: 8 }
        );
    }

    #[test]
    fn nobody_when_no_one_is_named() {
        let nobody = Identity {
            uid: 65533,
            gid: 65532,
        };
        assert_eq!(resolve(None, None).unwrap(), nobody);
        assert_eq!(resolve(None, Some(("0", "0"))).unwrap(), nobody);
    }

    #[test]
    fn root_and_strangers_are_refused() {
        for user in ["root", "0", "eve", "-1", ""] {
            assert!(resolve(Some(user), None).is_err(), "{user}");
        }
        assert!(resolve(None, Some(("7", "0"))).is_err());
        assert!(resolve(None, Some(("x", "8"))).is_err());
    }
}
