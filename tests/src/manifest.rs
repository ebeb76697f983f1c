//! Manifests.

use std::path::Path;

use serde_json::{Value, json};

/// A manifest, to be written as JSON, which is YAML.
#[derive(Clone, Debug)]
pub struct Manifest(pub Value);

impl Default for Manifest {
    fn default() -> Self {
        Self(json!({
            "skill": {"name": "tested", "version": "1"},
            "permissions": {"filesystem": {}, "network": {}, "exec": {}, "env_vars": {}},
            "resources": {"max_runtime_seconds": 300, "max_processes": 256},
            "entrypoint": {"command": "true", "workdir": "/"},
        }))
    }
}

impl Manifest {
    fn add(mut self, pointer: &str, values: impl IntoIterator<Item = Value>) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
        let parent = self
            .0
            .pointer_mut(parent)
            .expect("a section of the manifest");
        let list = &mut parent[key];
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().expect("a list").extend(values);
        self
    }

    fn path(self, key: &str, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_str().expect("a path in UTF-8").to_owned();
        self.add(&format!("/permissions/{key}"), [json!(path)])
    }

    /// Grants reading.
    #[must_use]
    pub fn read(self, path: impl AsRef<Path>) -> Self {
        self.path("filesystem/read", path)
    }

    /// Grants writing.
    #[must_use]
    pub fn write(self, path: impl AsRef<Path>) -> Self {
        self.path("filesystem/write", path)
    }

    /// Grants reading and writing.
    #[must_use]
    pub fn both(self, path: impl AsRef<Path>) -> Self {
        self.read(&path).write(path)
    }

    /// Denies a path or `**/name`.
    #[must_use]
    pub fn deny(self, path: impl AsRef<Path>) -> Self {
        self.path("filesystem/deny", path)
    }

    /// Lets a name that others obey be written.
    #[must_use]
    pub fn persist(self, name: &str) -> Self {
        self.path("filesystem/persist", name)
    }

    /// Grants executing.
    #[must_use]
    pub fn exec(self, path: impl AsRef<Path>) -> Self {
        self.path("exec/allow", path)
    }

    /// Grants reaching a network, on a port.
    #[must_use]
    pub fn egress(self, cidr: &str, port: u16, protocol: &str) -> Self {
        let entry = json!({"cidr": cidr, "ports": [port], "protocol": protocol});
        self.add("/permissions/network/egress", [entry])
    }

    /// Grants reaching hosts by name, each at a port of TCP.
    #[must_use]
    pub fn names(self, names: &[(&str, u16)]) -> Self {
        let entries = names
            .iter()
            .map(|(name, port)| json!({"domain": name, "ports": [port]}));
        self.add("/permissions/network/egress", entries)
    }

    /// Passes a variable.
    #[must_use]
    pub fn pass(self, name: &str) -> Self {
        self.add("/permissions/env_vars/allow", [json!(name)])
    }

    /// Sets anything, by JSON pointer, in a section that is there.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
        self.0
            .pointer_mut(parent)
            .expect("a section of the manifest")[key] = value;
        self
    }
}
