//! Records in the forms that other systems take.

pub mod ocsf;
