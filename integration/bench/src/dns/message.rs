//! Questions, as packets of the askers.

use std::net::Ipv4Addr;

use crate::stage::Stage;

/// The zone of all names but those of the world.
pub const ZONE: &str = "steppe.internal";

/// Who asks, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    pub askers: u16,
    /// Names that each asker may ask for.
    pub each: usize,
    /// Names in all.
    pub all: usize,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Questions {
    /// An address, of a name that there is.
    Address,
    /// An IPv6 address, of the same.
    NoData,
    /// An address, of a name that there isn't.
    NoName,
    /// An address that a resolver knows.
    World,
    /// As [`Questions::Address`], over TCP.
    Tcp,
}

/// One question.
#[derive(Debug)]
pub struct Question {
    pub source: Ipv4Addr,
    pub packet: Vec<u8>,
    /// The lower half of the flags, and the count of answers, that are right.
    pub right: (u8, u8),
}

impl Names {
    /// The askers' addresses.
    pub fn sources(self) -> impl Iterator<Item = Ipv4Addr> {
        (1..=self.askers).map(Stage::source)
    }

    /// The names of the nth asker, by their numbers.
    pub fn of(self, asker: usize) -> impl Iterator<Item = usize> {
        (0..self.each).map(move |nth| (asker * self.each + nth) % self.all)
    }

    /// A name, without the zone.
    pub fn name(number: usize) -> String {
        format!("service-{number}")
    }

    /// Where it leads.
    #[expect(clippy::cast_possible_truncation, reason = "there are not so many")]
    pub fn address(number: usize) -> Ipv4Addr {
        Ipv4Addr::from(0xf701_0000 + number as u32)
    }
}

impl Questions {
    /// Each asker's questions, in an order that is the same in each run and mixes them.
    pub fn of(self, names: Names) -> Vec<Question> {
        let mut all = Vec::new();
        for (asker, source) in names.sources().enumerate() {
            for number in names.of(asker) {
                let name = Names::name(number);
                let (name, kind, right) = match self {
                    Self::Address | Self::Tcp => (format!("{name}.{ZONE}"), 1, (0, 1)),
                    Self::NoData => (format!("{name}.{ZONE}"), 28, (0, 0)),
                    Self::NoName => (format!("no-{name}.{ZONE}"), 1, (3, 0)),
                    Self::World => (format!("{name}.example.com"), 1, (0, 1)),
                };
                all.push(Question { source, packet: packet(&name, kind), right });
            }
        }
        // A step that has no factor in common with the count visits all.
        let step =
            (0..).map(|more| 7919 + more).find(|step| greatest_common(*step, all.len()) == 1).unwrap_or(1);
        let order: Vec<usize> = (0..all.len()).map(|nth| nth * step % all.len()).collect();
        let mut all: Vec<Option<Question>> = all.into_iter().map(Some).collect();
        order.into_iter().filter_map(|nth| all[nth].take()).collect()
    }
}

fn greatest_common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common(b, a % b) }
}

/// A question without EDNS, as libc asks.
fn packet(name: &str, kind: u8) -> Vec<u8> {
    let mut packet = b"\0\0\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        #[expect(clippy::cast_possible_truncation, reason = "labels of ours are short")]
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, kind, 0, 1]);
    packet
}

impl Question {
    /// Whether this is the answer.
    pub fn is_answered_by(&self, answer: &[u8]) -> bool {
        let Some(head) = answer.first_chunk::<12>() else { return false };
        head[2] & 0x80 != 0
            && (head[3] & 0xf, head[7]) == self.right
            && answer.get(12..self.packet.len()) == self.packet.get(12..)
    }
}
