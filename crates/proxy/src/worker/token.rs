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
    /// A socket of a connection.
    Connection(ConnectionKey, Side),
}

const INBOX: u64 = 0;
const LISTENER: u64 = 1;
const CLIENT: u64 = 2;
const ENDPOINT: u64 = 3;

/// Connections of a worker: as many as 30 bits can number.
pub(super) const MAX_INDEX: usize = (1 << 30) - 1;

impl Token {
    pub(super) fn encode(self) -> EventData {
        EventData::new_u64(match self {
            Self::Inbox => INBOX,
            Self::Listener(index) => u64::from(index) << 2 | LISTENER,
            Self::Connection(key, side) => {
                let side = if side == Side::Client { CLIENT } else { ENDPOINT };
                u64::from(key.generation) << 32 | u64::from(key.index) << 2 | side
            }
        })
    }

    pub(super) fn decode(data: EventData) -> Self {
        let data = data.u64();
        let index = (data as u32) >> 2;
        let generation = (data >> 32) as u32;
        match data & 3 {
            INBOX => Self::Inbox,
            LISTENER => Self::Listener(index),
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
