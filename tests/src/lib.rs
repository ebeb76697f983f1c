//! Shared helpers of the behaviour tests.

pub mod kernel_access;
pub mod kernel_differential;
pub mod kernel_helper;
pub mod kernel_preemption;
pub mod kernel_rng;
pub mod kernel_rules;
pub mod kernel_sandbox;
pub mod kernel_world;
