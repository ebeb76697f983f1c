//! The manifest's profile of system calls as the filters know it.

use crate::isolate::Profile;
use crate::manifest::SystemCallProfile;

impl From<SystemCallProfile> for Profile {
    fn from(profile: SystemCallProfile) -> Self {
        match profile {
            SystemCallProfile::Permissive => Self::Permissive,
            SystemCallProfile::Default => Self::Default,
            SystemCallProfile::Strict => Self::Strict,
        }
    }
}
