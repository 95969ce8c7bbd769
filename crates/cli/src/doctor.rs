//! `steppe doctor`: what on this host would keep Steppe from working, and what to do about it.
//!
//! [`gather`] collects facts and decides nothing; [`judge`] decides, purely, from the facts.

mod audit;
mod facts;
mod finding;
mod gather;
mod judge;

pub(crate) use audit::audit;
pub(crate) use facts::{Leftovers, Wanted};
pub(crate) use finding::Report;
pub(crate) use gather::leftovers;

/// Examines this host.
pub(crate) async fn examine(wanted: &Wanted, run_dir: &std::path::Path) -> Report {
    let facts = gather::gather(wanted, run_dir).await;
    Report::new(judge::judge(wanted, &facts))
}
