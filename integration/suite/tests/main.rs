//! Tests on real parts. They need root; see CONTRIBUTING.md.

mod common;
mod story;
mod testbed;
