//! What decides whether a whole test run was good: its results, counted, and the promises that they show.
#![forbid(unsafe_code)]

pub mod promises;
pub mod results;
