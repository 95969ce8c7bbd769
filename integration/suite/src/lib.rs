//! What decides whether a whole test run was good: its results, counted, and the promises that they show. And what
//! tests, measurements and the demo share.
#![forbid(unsafe_code)]

pub mod ask;
pub mod orders;
pub mod promises;
pub mod quantiles;
pub mod results;
