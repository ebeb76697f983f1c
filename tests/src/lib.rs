//! Shared helpers of the behaviour tests.

#![allow(
    clippy::missing_panics_doc,
    reason = "to panic is how a helper of tests fails"
)]

pub mod attempts;
pub mod host;
pub mod manifest;
pub mod sandbox;
pub mod scene;
