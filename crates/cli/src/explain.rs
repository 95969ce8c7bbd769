//! `steppe explain`.

use serde::Serialize;
use steppe_explain::{Explanation, Paint, Query, Suite};

use crate::args::Addresses;

/// An explanation, ready to be printed.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    /// The exit code, for whoever reads the JSON alone.
    exit_code: u8,
    #[serde(flatten)]
    explanation: Explanation,
}

pub(crate) async fn gather(suite: &Suite, workload: &str, service: &str, at: Addresses) -> Explained {
    let query = Query { workload: workload.to_owned(), service: service.to_owned() };
    let addresses = steppe_explain::Addresses {
        services: at.service_cidr,
        listener: at.listener_address,
        dns: at.dns_address,
    };
    let facts = steppe_explain::gather(suite, query, addresses).await;
    let explanation = steppe_explain::judge(&facts);
    Explained { exit_code: explanation.verdict.exit_code(), explanation }
}

impl Explained {
    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        steppe_explain::render(&self.explanation, paint)
    }
}
