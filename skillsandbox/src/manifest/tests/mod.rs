//! Behaviour of the whole manifest reader.

mod accepted;
mod bad;
mod documented;
mod hostile;
mod round_trip;
