//! Shared helpers of the behaviour tests.

pub mod attempts;
pub mod host;
pub mod manifest;
pub mod sandbox;
pub mod scene;
