//! Shared helpers of the behaviour tests.
#![allow(
    clippy::missing_panics_doc,
    reason = "to panic is how a helper of tests fails"
)]

pub mod attached;
pub mod attacks;
pub mod attempts;
pub mod cgroup;
pub mod daemon;
pub mod host;
pub mod kernel_access;
mod kernel_answer;
pub mod kernel_differential;
pub mod kernel_helper;
pub mod kernel_preemption;
pub mod kernel_rng;
pub mod kernel_rules;
pub mod kernel_sandbox;
pub mod kernel_world;
pub mod manifest;
pub mod network;
pub mod sandbox;
pub mod scene;
pub mod service;
pub mod store;
