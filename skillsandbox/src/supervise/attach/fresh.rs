//! A cgroup that gets its first policy.

use std::{os::fd::AsFd, path::Path};

use skillsandbox_common::names::{Hook, Program};

use super::{
    super::{
        error::RunError,
        registry::{Place, Registry},
        sandbox::{Tier, programs},
    },
    AttachRequest, Told,
    chapter::{Chapter, Draft, grants_of, policy_of},
    end::{clear_away, complete_all},
    nothing_attached,
    open_files::Processes,
    post::Post,
    rules::{self, Rules},
    state::{self, State},
};
use crate::{
    audit::{clock::Clock, record::Layer},
    dns::Sockets,
    isolate::{cgroup::Hierarchy, existing::Existing, home::Home},
    kernel::{
        Attached, Home as KernelHome, HomeTaker, KernelError, Objects, Proof, Rings, Target,
        prove::Prover,
    },
};

impl Post {
    /// Attaches a cgroup.
    pub(super) fn fresh(
        request: &AttachRequest,
        registry: &Registry,
        objects: Objects,
        hierarchy: &Hierarchy,
        tell: &(dyn Fn(Told) + Sync),
    ) -> Result<(Self, Chapter), RunError> {
        let Some(file) = &request.manifest else {
            return Err(nothing_attached(&request.name));
        };
        let text = rules::text_of(file)?;
        let file = file.to_string_lossy().into_owned();
        let path = match &request.cgroup {
            Some(path) => path.clone(),
            None => rules::cgroup_of(&file, &text)?,
        };
        let cgroup = attachable(registry, &objects, hierarchy, &path)?;
        let home = rules::home_of(&cgroup)?;
        let rules = Rules::read(&file, &text, request.mode, &home)?;
        rules.check_names(&cgroup)?;
        let sockets = Self::sockets(&rules)?;
        let processes = Processes::of(cgroup.processes()?)?;
        let mut running = processes.running(&home)?;

        let place = registry.enter_attached(&request.name, &objects)?;
        let held = hold(
            request,
            &objects,
            &place,
            &cgroup,
            &home,
            &rules,
            sockets.as_ref(),
        );
        let Held {
            attached,
            rings,
            tier,
            unheld,
        } = match held {
            Ok(held) => held,
            Err(error) => {
                clear_away(registry, &objects, place)?;
                return Err(error);
            }
        };
        let mut post = Self {
            state: State::new(
                request,
                &objects,
                &cgroup,
                &tier,
                unheld,
                programs(&attached).chain(not_here()).collect(),
                state::Policy {
                    slot: place.slot,
                    run: String::new(),
                    manifest_file: file,
                    manifest: text,
                },
            ),
            objects,
            place,
            cgroup,
            home,
            clock: Clock::capture(),
            watch: request.watch,
        };
        let begun = (|| {
            let begins = post.begins(&rules);
            post.state.policy.run.clone_from(&begins.about.run);
            post.state.keep(&post.place)?;
            let log = post.log(&begins)?;
            // What runs another program meanwhile says so on the ring.
            let after = processes.running(&post.home)?;
            running.retain(|process| after.contains(process));
            post.tell_open(&rules, tell)?;
            let grants = grants_of(&rules, &attached)?;
            let draft = Draft {
                rules,
                attached,
                rings,
                log,
                sockets,
                grants,
            };
            post.begin(draft, running)
        })();
        match begun {
            Ok(chapter) => Ok((post, chapter)),
            Err(error) => {
                complete_all(registry, &post.objects, post.place, &post.state)?;
                Err(error)
            }
        }
    }
}

/// Rules that decide in a cgroup.
struct Held {
    attached: Attached,
    rings: Rings,
    tier: Tier,
    /// What no program decides on.
    unheld: Option<String>,
}

/// Has the rules decide in the cgroup.
fn hold(
    request: &AttachRequest,
    objects: &Objects,
    place: &Place,
    cgroup: &Existing,
    home: &Home,
    rules: &Rules,
    sockets: Option<&Sockets>,
) -> Result<Held, RunError> {
    let take = |taker: &HomeTaker, slot| {
        let taken = home.run(|| taker.take(slot));
        taken.map_err(|error| KernelError::Home {
            reason: error.to_string(),
        })?
    };
    let policy = policy_of(rules, sockets);
    let target = Target::new(cgroup.folder(), cgroup.id());
    let mut prover = Prover::start(cgroup.folder().as_fd())?;
    let (mut attached, rings) = objects.attach(
        &place.id,
        place.slot,
        &target,
        &policy,
        KernelHome::Of(&take),
        &mut prover,
    )?;
    drop(prover);
    let tier = Tier::of(&attached);
    let unheld = unheld(&attached, &tier);
    if let Some(what) = &unheld
        && !request.accept_fallback
    {
        let what = what.clone();
        return Err(RunError::NotHeld { what });
    }
    objects.trace(tier.calls_to_trace() != 0)?;
    attached.arm(tier.calls_to_trace())?;
    Ok(Held {
        attached,
        rings,
        tier,
        unheld,
    })
}

/// What no program decides on here, and why. In a sandbox of `run` other layers do.
fn unheld(attached: &Attached, tier: &Tier) -> Option<String> {
    if let Tier::Fallback(reason) = tier {
        return Some(format!(
            "files and programs, which are only recorded: {reason}"
        ));
    }
    // Who may rename what it may not read can read it under another name.
    let names = "names that files are given and lose, of which there is no record either";
    let decides = |program: &Program| matches!(program.hook, Hook::LsmCgroup(_) | Hook::Lsm(_));
    let mut refused = attached.refused().iter();
    let mut unproved = attached.attached().iter();
    refused
        .find(|(program, _)| decides(program))
        .map(|(program, why)| format!("{names}: {}: {why}", program.name))
        .or_else(|| {
            let unproved =
                unproved.find(|(program, proof)| decides(program) && *proof != Proof::Denies);
            unproved.map(|(program, _)| format!("{names}: {} could not be proved", program.name))
        })
}

/// What holds in the sandboxes of `run` and cannot be put around processes that run already.
fn not_here() -> impl Iterator<Item = Layer> {
    let layers = [
        "mounts",
        "landlock",
        "seccomp",
        "namespaces",
        "limits",
        "environment",
        "iptables",
        "ip6tables",
    ];
    layers.into_iter().map(|name| Layer {
        name: name.to_owned(),
        achieved: false,
        detail: Some("not for a cgroup that was there already".to_owned()),
    })
}

/// The cgroup of this path, if it can be attached.
fn attachable(
    registry: &Registry,
    objects: &Objects,
    hierarchy: &Hierarchy,
    path: &Path,
) -> Result<Existing, RunError> {
    let cgroup = Existing::open(hierarchy, path)?;
    if cgroup.holds_this_process()? {
        return Err(RunError::attachment(
            format!("this process runs in {} itself", cgroup.place().display()),
            "start it from elsewhere: from a shell outside, or as a unit of systemd's",
        ));
    }
    if cgroup.is_frozen()? {
        return Err(RunError::attachment(
            format!(
                "{} is frozen, and nothing can be tried there",
                cgroup.place().display()
            ),
            "thaw it first (cgroup.freeze)",
        ));
    }
    refuse_nested(registry, objects, &cgroup)?;
    Ok(cgroup)
}

/// Refuses a cgroup that lies in another one that is attached, or the other way round: shared programs decide by one
/// policy alone.
fn refuse_nested(
    registry: &Registry,
    objects: &Objects,
    cgroup: &Existing,
) -> Result<(), RunError> {
    for name in registry.attached(objects)? {
        let Some(state) = State::of_name(registry, &name)? else {
            continue;
        };
        let (one, other) = (cgroup.place(), &state.cgroup);
        if one.starts_with(other) || other.starts_with(one) {
            return Err(RunError::attachment(
                format!(
                    "{} and {} would lie in one another: {name} has the policy of the second",
                    one.display(),
                    other.display()
                ),
                "attach one of the two",
            ));
        }
    }
    Ok(())
}
