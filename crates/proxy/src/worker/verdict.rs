//! What becomes of a connection when its two directions have had their turn. Pure.

use rustix::io::Errno;

use super::token::Side;
use crate::copy::{Failure, Outcome};

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It waits for its sockets.
    Wait,
    /// It has more to do and waits for its turn.
    Again,
    /// Both directions have ended: close both sockets.
    Close,
    /// One socket is broken, after everything it had to say was passed on: close both, and let the other peer have all
    /// that the kernel still holds for it.
    Break(Side, Errno),
    /// One socket is broken before it ended its stream: reset the other, so that what it got can't look complete.
    Reset(Side, Errno),
}

/// What is known when both directions have had their turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Findings {
    pub(super) to_endpoint: Outcome,
    pub(super) to_client: Outcome,
    /// The kernel's word that a socket is broken, which the copying may not have met yet.
    pub(super) broken: Option<(Side, Errno)>,
    /// Whether the client's FIN was passed on.
    pub(super) client_finished: bool,
    /// Whether the endpoint's FIN was passed on.
    pub(super) endpoint_finished: bool,
}

impl Findings {
    pub(super) fn verdict(self) -> Verdict {
        if self.client_finished && self.endpoint_finished {
            return Verdict::Close;
        }
        let to_endpoint = failed(self.to_endpoint, Side::Client, Side::Endpoint);
        let to_client = failed(self.to_client, Side::Endpoint, Side::Client);
        match to_endpoint.or(to_client).or(self.broken) {
            Some((side, errno)) if self.finished(side) => Verdict::Break(side, errno),
            Some((side, errno)) => Verdict::Reset(side, errno),
            None if self.to_endpoint == Outcome::Unfinished || self.to_client == Outcome::Unfinished => {
                Verdict::Again
            }
            None => Verdict::Wait,
        }
    }

    fn finished(self, side: Side) -> bool {
        match side {
            Side::Client => self.client_finished,
            Side::Endpoint => self.endpoint_finished,
        }
    }
}

fn failed(outcome: Outcome, source: Side, sink: Side) -> Option<(Side, Errno)> {
    match outcome {
        Outcome::Failed(Failure::Source(errno)) => Some((source, errno)),
        Outcome::Failed(Failure::Sink(errno)) => Some((sink, errno)),
        _ => None,
    }
}

/// How a connection ended, for people.
pub(super) fn described(side: Side, errno: Errno) -> &'static str {
    // A peer that is gone without a word: keepalive or retransmissions found nobody (tcp(7)).
    let lost = matches!(errno, Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN);
    match (side, lost) {
        (Side::Client, false) => "reset by client",
        (Side::Client, true) => "client lost",
        (Side::Endpoint, false) => "reset by endpoint",
        (Side::Endpoint, true) => "endpoint lost",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Waiting),
            Just(Outcome::Unfinished),
            Just(Outcome::Failed(Failure::Source(Errno::CONNRESET))),
            Just(Outcome::Failed(Failure::Sink(Errno::PIPE))),
        ]
    }

    proptest! {
        #[test]
        fn a_stream_that_broke_never_ends_well(
            to_endpoint in outcome(),
            to_client in outcome(),
            broken in proptest::option::of(prop_oneof![Just(Side::Client), Just(Side::Endpoint)]),
            finished in proptest::option::of(prop_oneof![Just(Side::Client), Just(Side::Endpoint)]),
        ) {
            let findings = Findings {
                to_endpoint: if finished == Some(Side::Client) { Outcome::Finished } else { to_endpoint },
                to_client: if finished == Some(Side::Endpoint) { Outcome::Finished } else { to_client },
                broken: broken.map(|side| (side, Errno::CONNRESET)),
                client_finished: finished == Some(Side::Client),
                endpoint_finished: finished == Some(Side::Endpoint),
            };
            match findings.verdict() {
                Verdict::Close => prop_assert!(false, "one direction is open"),
                Verdict::Break(side, _) => prop_assert_eq!(finished, Some(side)),
                Verdict::Reset(side, _) => prop_assert_ne!(finished, Some(side)),
                Verdict::Wait | Verdict::Again => {
                    prop_assert_eq!(broken, None);
                    prop_assert!(!matches!(findings.to_endpoint, Outcome::Failed(_)));
                    prop_assert!(!matches!(findings.to_client, Outcome::Failed(_)));
                }
            }
        }
    }

    #[test]
    fn two_ends_make_a_close() {
        let findings = Findings {
            to_endpoint: Outcome::Finished,
            to_client: Outcome::Finished,
            broken: Some((Side::Endpoint, Errno::CONNRESET)),
            client_finished: true,
            endpoint_finished: true,
        };
        assert_eq!(findings.verdict(), Verdict::Close);
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(described(Side::Client, Errno::CONNRESET), "reset by client");
        assert_eq!(described(Side::Endpoint, Errno::TIMEDOUT), "endpoint lost");
    }
}
