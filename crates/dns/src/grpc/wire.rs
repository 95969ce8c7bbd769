//! What dns knows, as messages.

use std::time::Instant;

use steppe_api::v1;

use crate::{
    counters::Outcome,
    forward::Upstream,
    watch::Seen,
    wire::{rcode_name, type_name},
};

impl From<Outcome> for v1::QuestionResult {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Service => Self::Service,
            Outcome::Member => Self::Member,
            Outcome::NoName => Self::NoName,
            Outcome::Forwarded => Self::Forwarded,
            Outcome::Cached => Self::Cached,
            Outcome::Failed => Self::Failed,
            Outcome::Refused => Self::Refused,
            Outcome::Limited => Self::Limited,
        }
    }
}

/// Why, where the name does not tell more.
pub(super) fn reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Forwarded => "it is no name of Steppe's: a resolver of the host answered",
        Outcome::Cached => "it is no name of Steppe's: a resolver of the host answered not long ago",
        Outcome::Failed => {
            "no resolver of the host answered, or steppe-control has not told yet what there is"
        }
        Outcome::Refused => "questions of that kind, or from that address, are not passed on",
        Outcome::Limited => "the asker has too many questions open",
        Outcome::Service | Outcome::Member | Outcome::NoName => "",
    }
}

pub(super) fn upstream(upstream: &Upstream, now: Instant) -> v1::Upstream {
    let failed = upstream.failed().map(|at| now.saturating_duration_since(at).as_millis());
    v1::Upstream {
        address: Some(v1::SocketAddress {
            ip: upstream.address.ip().to_string(),
            port: upstream.address.port().into(),
        }),
        failed_ms_ago: failed.map_or(0, |ms| u64::try_from(ms).unwrap_or(u64::MAX).max(1)),
    }
}

pub(super) fn event(seen: &Seen, workload: String, missed: u64) -> v1::QuestionEvent {
    let (name, kind) = match &seen.question {
        Some((name, kind)) => (name.to_string(), type_name(*kind)),
        None => Default::default(),
    };
    v1::QuestionEvent {
        missed,
        ip: seen.ip.to_string(),
        workload,
        name,
        r#type: kind,
        result: v1::QuestionResult::from(seen.outcome).into(),
        rcode: seen.rcode.map(rcode_name).unwrap_or_default(),
        took_us: seen.took.as_micros().try_into().unwrap_or(u64::MAX),
    }
}
