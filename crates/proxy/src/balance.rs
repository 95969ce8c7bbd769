//! Which endpoint a connection goes to. Pure: turns and time are arguments.

mod eject;
mod rotation;

pub(crate) use eject::{CONSECUTIVE_FAILURES, Ejector, SWEEP_INTERVAL};
pub(crate) use rotation::{Rotation, Tried};
