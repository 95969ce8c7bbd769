//! Tests on real parts. They need root; see CONTRIBUTING.md.

mod testbed;
