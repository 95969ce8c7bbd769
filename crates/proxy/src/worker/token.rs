//! What an epoll event is about, packed into its 64 bits.

use rustix::event::epoll::EventData;

/// One of a connection's two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Endpoint,
}

/// Which connection of a worker. The slab gives an index out again; the generation tells the tenants apart, so that an event
/// that was already fetched for one can't hit the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// The inbox.
    Inbox,
    /// A listening socket, by its index.
    Listener(u32),
    /// A UDP listener's socket, by its index.
    Datagrams(u32),
    /// A flow's socket, by its index. An event that was already fetched for one and hits the next does no harm: nothing is
    /// there to be read.
    Flow(u32),
    /// A socket of a connection.
    Connection(ConnectionKey, Side),
}

const INBOX: u64 = 0;
const LISTENER: u64 = 1;
const CLIENT: u64 = 2;
const ENDPOINT: u64 = 3;
const DATAGRAMS: u64 = 4;
const FLOW: u64 = 5;
/// Bits that say which of these it is.
const KIND_BITS: u32 = 3;

/// Connections of a worker: as many as 29 bits can number.
pub(super) const MAX_INDEX: usize = (1 << 29) - 1;

impl Token {
    pub(super) fn encode(self) -> EventData {
        EventData::new_u64(match self {
            Self::Inbox => INBOX,
            Self::Listener(index) => u64::from(index) << KIND_BITS | LISTENER,
            Self::Datagrams(index) => u64::from(index) << KIND_BITS | DATAGRAMS,
            Self::Flow(index) => u64::from(index) << KIND_BITS | FLOW,
            Self::Connection(key, side) => {
                let side = if side == Side::Client { CLIENT } else { ENDPOINT };
                u64::from(key.generation) << 32 | u64::from(key.index) << KIND_BITS | side
            }
        })
    }

    pub(super) fn decode(data: EventData) -> Self {
        let data = data.u64();
        let index = (data as u32) >> KIND_BITS;
        let generation = (data >> 32) as u32;
        match data & ((1 << KIND_BITS) - 1) {
            INBOX => Self::Inbox,
            LISTENER => Self::Listener(index),
            DATAGRAMS => Self::Datagrams(index),
            FLOW => Self::Flow(index),
            CLIENT => Self::Connection(ConnectionKey { index, generation }, Side::Client),
            _ => Self::Connection(ConnectionKey { index, generation }, Side::Endpoint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        let last = MAX_INDEX as u32;
        let mut tokens = vec![Token::Inbox, Token::Listener(0), Token::Listener(last)];
        tokens.extend([0, last].into_iter().flat_map(|index| [Token::Datagrams(index), Token::Flow(index)]));
        for key in
            [(0, 0), (7, u32::MAX), (last, 1)].map(|(index, generation)| ConnectionKey { index, generation })
        {
            tokens.extend([Token::Connection(key, Side::Client), Token::Connection(key, Side::Endpoint)]);
        }
        for token in tokens {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
