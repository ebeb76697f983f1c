//! The host's key, which signs what the ledger says. Whoever is root has it: it proves what was changed
//! without it, and by whoever came before a copy of the ledger was taken off the host.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::BorrowedFd,
};

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

use super::hex;

const SECRET: &str = "key";
const PUBLIC: &str = "key.pub";
/// A line of hexadecimal, and no more.
const FILE_MAX: u64 = 256;

/// Signs.
#[derive(Debug)]
pub(super) struct Key(SigningKey);

/// Proves signatures.
#[derive(Clone, Debug)]
pub(super) struct PublicKey(VerifyingKey);

impl Key {
    /// The key in this folder, made if there is none. Only one process may do this at a time.
    pub(super) fn of(folder: BorrowedFd<'_>) -> io::Result<Self> {
        let secret = match read(folder, SECRET) {
            Ok(secret) => secret,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; 32];
                let mut filled = 0;
                while let Some(rest) = secret.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    filled += getrandom(rest, GetRandomFlags::empty())?;
                }
                let public = SigningKey::from_bytes(&secret).verifying_key();
                // The secret last: where it is, both are.
                write(folder, PUBLIC, &public.to_bytes(), 0o644)?;
                write(folder, SECRET, &secret, 0o600)?;
                secret
            }
            Err(error) => return Err(error),
        };
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl PublicKey {
    /// The key in this folder.
    pub(super) fn of(folder: BorrowedFd<'_>) -> io::Result<Self> {
        Self::from_bytes(&read(folder, PUBLIC)?)
    }

    /// From a line of hexadecimal.
    pub(super) fn parse(line: &str) -> Option<Self> {
        Self::from_bytes(&hex::parse(line.trim())?).ok()
    }

    fn from_bytes(bytes: &[u8; 32]) -> io::Result<Self> {
        let key = VerifyingKey::from_bytes(bytes);
        key.map(Self).map_err(io::Error::other)
    }

    pub(super) fn bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub(super) fn proves(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0
            .verify(bytes, &Signature::from_bytes(signature))
            .is_ok()
    }
}

fn read(folder: BorrowedFd<'_>, name: &str) -> io::Result<[u8; 32]> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::empty())?);
    let mut line = String::new();
    file.take(FILE_MAX).read_to_string(&mut line)?;
    let key = hex::parse(line.trim());
    key.ok_or_else(|| io::Error::other(format!("{name} is not a key")))
}

fn write(folder: BorrowedFd<'_>, name: &str, key: &[u8; 32], mode: u32) -> io::Result<()> {
    // What a start that was interrupted left of it.
    match rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::from_raw_mode(mode))?);
    writeln!(file, "{}", hex::Hex(key))?;
    file.sync_all()
}
