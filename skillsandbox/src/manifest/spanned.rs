//! A value that knows the line it was written on.

use serde::Serialize;

/// A value and its line in the manifest. Serialised as the value alone.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its line, from 1; 0 when it is a default that is written nowhere.
    #[serde(skip)]
    pub line: u32,
}

impl<T> Spanned<T> {
    /// A default, written nowhere.
    pub const fn unwritten(value: T) -> Self {
        Self { value, line: 0 }
    }
}

/// The same value on another line is the same value.
impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}
