//! From a manifest and this host to everything a sandbox is made of. Changes nothing.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    ceiling,
    draft::{Draft, NeedsKernelTier},
    error::RunError,
};
use crate::{
    isolate::{
        environment::Environment,
        launch::{Grant as PathGrant, Runtime as LaunchRuntime},
        privileges::Identity,
        program::{Program, View},
        reach::as_caller,
    },
    manifest::{Manifest, Runtime, Spanned},
    policy::{Grant, RuleSet, Subject},
};

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Request {
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's file, as the caller named it.
    pub manifest_file: String,
    /// The skill's folder on the host.
    pub skill_dir: PathBuf,
    /// The command, in place of the manifest's entrypoint.
    pub command: Option<Vec<OsString>>,
    /// Arguments after those of the entrypoint.
    pub extra_arguments: Vec<OsString>,
    /// The environment that variables are passed on from.
    pub environment: Vec<(OsString, OsString)>,
    /// Who asked for it without being root: it runs as this user, and what it is to have is reached as this user.
    pub caller: Option<Identity>,
}

/// A sandbox on paper: the rules, and what of the host it has.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rules, numbered as events number them.
    pub rules: RuleSet,
    /// Its program.
    pub program: Program,
    /// The program's arguments, its own name first.
    pub arguments: Vec<OsString>,
    /// Paths with their access, without links.
    pub grants: Vec<PathGrant>,
    /// Links that lead to them.
    pub links: Vec<(OsString, OsString)>,
    /// Paths that are denied although a grant covers them.
    pub denies: Vec<OsString>,
    /// The environment.
    pub environment: Environment,
    /// Names that the manifest gives values.
    pub set: Vec<String>,
    /// The rule that can be held only where eBPF decides on files, if there is one.
    pub needs_kernel_tier: Option<NeedsKernelTier>,
}

impl Plan {
    /// Works everything out. Links are followed, programs and paths must be there.
    pub(super) fn make(request: &Request) -> Result<Self, RunError> {
        let manifest = &request.manifest;
        let (command, line, mut arguments) = command_of(request);
        let drafted = as_caller(request.caller, || -> Result<_, RunError> {
            let mut draft = Draft::default();
            draft.runtime(manifest.permissions.filesystem.runtime);
            draft.filesystem(manifest)?;
            draft.network(manifest)?;

            let workdir = manifest.entrypoint.workdir.as_path();
            let view = View::new(
                launch_runtime(manifest.permissions.filesystem.runtime),
                &request.skill_dir,
                draft.grants.iter().map(|grant| Path::new(&grant.path)),
            );
            let program = view.program(&command, workdir)?;
            draft.program(&program, line);
            Ok((draft, program))
        });
        let (draft, program) = drafted??;
        let mode = manifest.mode.value;
        let ceiling = ceiling::of_this_host()?;
        let mut asked = draft.rules.clone();
        if request.caller.is_some() {
            // Root chooses a skill's folder; a caller asks for it.
            let folder = request.skill_dir.as_os_str().as_bytes().to_vec();
            let text = format!("the skill's folder {}", request.skill_dir.display());
            asked.push(Subject::Path(folder, Grant::READ), text, None);
        }
        ceiling::check(
            ceiling.as_ref(),
            &request.manifest_file,
            manifest,
            mode,
            &asked,
        )?;
        arguments.extend(request.extra_arguments.iter().cloned());

        let variables = &manifest.permissions.env_vars;
        let allow: Vec<String> = variables
            .allow
            .iter()
            .map(|name| name.value.as_str().to_owned())
            .collect();
        let set = variables
            .set
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.value.clone()))
            .collect();
        Ok(Self {
            rules: draft.rules,
            program,
            arguments,
            grants: draft.grants,
            links: draft.links,
            denies: draft.denies,
            environment: Environment::build(&allow, &set, request.environment.iter().cloned()),
            set: set.into_keys().collect(),
            needs_kernel_tier: draft.needs_kernel_tier,
        })
    }
}

/// The manifest's word for the runtime, as the launcher takes it.
pub(super) fn launch_runtime(runtime: Runtime) -> LaunchRuntime {
    match runtime {
        Runtime::System => LaunchRuntime::System,
        Runtime::None => LaunchRuntime::None,
    }
}

/// The command, its line in the manifest, and the arguments from its own name on.
fn command_of(request: &Request) -> (OsString, Option<usize>, Vec<OsString>) {
    if let Some((command, rest)) = request.command.as_deref().and_then(<[_]>::split_first) {
        let arguments = std::iter::once(command).chain(rest).cloned().collect();
        return (command.clone(), None, arguments);
    }
    let entrypoint = &request.manifest.entrypoint;
    let command = OsString::from(&entrypoint.command.value);
    let rest = entrypoint.args.iter().map(OsString::from);
    (
        command.clone(),
        line_of(&entrypoint.command),
        std::iter::once(command).chain(rest).collect(),
    )
}

/// The line of a part of the manifest.
pub(super) fn line_of<T>(spanned: &Spanned<T>) -> Option<usize> {
    (spanned.line > 0).then_some(spanned.line as usize)
}
