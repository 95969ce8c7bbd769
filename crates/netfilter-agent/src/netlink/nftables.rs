//! nf_tables' requests (linux/netfilter/nf_tables.h): tables, sets, counters and elements. Chains and rules: `rules.rs`.
//!
//! Sets and elements are written here and not with libnftnl, which would copy each element three times, and whose safe API has
//! neither maps nor counters nor flags of tables.

use std::collections::BTreeSet;

use super::{
    attr::Attrs,
    message::{ACK, CREATE, DUMP, Messages},
    rules,
};
use crate::ruleset::{
    Addresses, Balancer, COUNTERS, Element, Family, Key, Kind, SETS, Set, SetName, TABLE, Value, chains,
    stamp,
};

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
pub(super) const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
const NEW_OBJECT: u16 = SUBSYSTEM | 18;
const GET_OBJECT: u16 = SUBSYSTEM | 19;
/// `NFNL_MSG_BATCH_BEGIN` and `_END`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// `NFTA_TABLE_*`.
pub(super) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const USE: u16 = 3;
    pub(crate) const HANDLE: u16 = 4;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const OWNER: u16 = 7;
}

/// `NFTA_RULE_TABLE`.
const RULE_TABLE: u16 = 1;

/// `NFTA_CHAIN_*`.
pub(super) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
}

/// `NFTA_SET_*`.
mod set {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const KEY_TYPE: u16 = 4;
    pub(super) const KEY_LENGTH: u16 = 5;
    pub(super) const DATA_TYPE: u16 = 6;
    pub(super) const DATA_LENGTH: u16 = 7;
    pub(super) const ID: u16 = 10;
    pub(super) const TIMEOUT: u16 = 11;
    pub(super) const USERDATA: u16 = 13;
    pub(super) const EXPRESSION: u16 = 17;
    /// `NFT_SET_INTERVAL`, in `FLAGS`.
    pub(super) const INTERVAL: u32 = 0x4;
    /// `NFT_SET_MAP`.
    pub(super) const MAP: u32 = 0x8;
    /// `NFT_SET_TIMEOUT`.
    pub(super) const WITH_TIMEOUT: u32 = 0x10;
}

/// `NFTA_SET_ELEM_LIST_*`, `NFTA_LIST_*`, `NFTA_SET_ELEM_*` and `NFTA_DATA_*`.
pub(super) mod element {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const SET: u16 = 2;
    pub(crate) const LIST: u16 = 3;
    pub(crate) const ITEM: u16 = 1;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const EXPRESSION: u16 = 7;
    pub(crate) const VALUE: u16 = 1;
    /// `NFTA_DATA_VERDICT`.
    pub(crate) const VERDICT: u16 = 2;
    /// `NFTA_VERDICT_CODE`.
    pub(crate) const CODE: u16 = 1;
    /// `NFTA_VERDICT_CHAIN`.
    pub(crate) const CHAIN: u16 = 2;
    /// `NFT_SET_ELEM_INTERVAL_END`, in `FLAGS`.
    pub(crate) const INTERVAL_END: u32 = 1;
    /// `NFT_GOTO`.
    pub(crate) const GOTO: u32 = -4_i32 as u32;
}

/// `NFTA_LIMIT_*`.
mod limit {
    pub(super) const RATE: u16 = 1;
    /// In seconds.
    pub(super) const UNIT: u16 = 2;
    pub(super) const BURST: u16 = 3;
    pub(super) const FLAGS: u16 = 5;
    /// `NFT_LIMIT_F_INV`, in `FLAGS`.
    pub(super) const INVERTED: u32 = 1;
}

/// `NFTA_OBJ_*` and `NFTA_COUNTER_*`.
pub(super) mod object {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const TYPE: u16 = 3;
    pub(crate) const DATA: u16 = 4;
    /// `NFT_OBJECT_COUNTER`.
    pub(crate) const COUNTER: u32 = 1;
    pub(crate) const PACKETS: u16 = 2;
    /// `NFTA_EXPR_NAME`.
    pub(crate) const EXPRESSION_NAME: u16 = 1;
    /// `NFTA_EXPR_DATA`.
    pub(crate) const EXPRESSION_DATA: u16 = 2;
}

/// The table belongs to the socket that made it: `NFT_TABLE_F_OWNER` (Linux 5.12).
pub(crate) const OWNER: u32 = 0x2;
/// An owned table stays when its owner's socket closes: `NFT_TABLE_F_PERSIST` (Linux 6.9).
pub(crate) const PERSIST: u32 = 0x4;

/// Bytes of elements in one message. An attribute ends at 64 KiB.
const ELEMENTS_BYTES: usize = 60_000;
/// In user data, nft's own format of it: a comment (`NFTNL_UDATA_TABLE_COMMENT`, `NFTNL_UDATA_SET_ELEM_COMMENT`).
const COMMENT: u8 = 0;

/// The fixed part of every nfnetlink message (`struct nfgenmsg`).
pub(super) fn fixed(family: u8) -> [u8; FIXED] {
    [family, 0, 0, 0]
}
/// Its size.
pub(super) const FIXED: usize = 4;

/// Opens a transaction: what follows up to [`end`] happens as a whole or not at all.
pub(crate) fn begin(batch: &mut Messages) {
    batch.add(BATCH_BEGIN, 0, &batch_fixed(), |_| ());
}

/// Closes a transaction.
pub(crate) fn end(batch: &mut Messages) {
    batch.add(BATCH_END, 0, &batch_fixed(), |_| ());
}

/// The subsystem is in `res_id`, in network order.
fn batch_fixed() -> [u8; FIXED] {
    let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
    [0, 0, high, low]
}

/// Makes both tables, or takes them over if they are there, orphaned, with the same flags.
pub(crate) fn add_tables(batch: &mut Messages, flags: u32, addresses: Addresses) {
    for family in Family::ALL {
        batch.add(NEW_TABLE, CREATE, &fixed(family.number()), |attrs| {
            attrs.text(table::NAME, TABLE);
            attrs.be32(table::FLAGS, flags);
            attrs.bytes(table::USERDATA, &comment(&stamp(addresses)));
        });
    }
}

/// Removes a table with all that is in it.
pub(crate) fn delete_table(batch: &mut Messages, family: Family) {
    batch.add(DELETE_TABLE, 0, &fixed(family.number()), |attrs| attrs.text(table::NAME, TABLE));
}

/// What a message of [`add_ruleset`] made, by its sequence number: for the error that names it.
pub(crate) type Made = Vec<(u32, String)>;

/// Makes the sets, counters, chains and rules in the (empty) tables.
pub(crate) fn add_ruleset(batch: &mut Messages, addresses: Addresses) -> Made {
    let mut made = Made::new();
    for definition in &SETS {
        made.push((batch.next_sequence(), definition.words()));
        add_set(batch, definition);
    }
    for (family, counter) in COUNTERS {
        made.push((batch.next_sequence(), format!("counter {counter} {{ }}")));
        batch.add(NEW_OBJECT, CREATE, &fixed(family.number()), |attrs| {
            attrs.text(object::TABLE, TABLE);
            attrs.text(object::NAME, counter);
            attrs.be32(object::TYPE, object::COUNTER);
            attrs.nest(object::DATA, |_| ());
        });
    }
    for chain in chains(addresses) {
        rules::add_chain(batch, &chain, &mut made);
    }
    made
}

/// Makes the rules of tables that have their sets and counters already what they shall be, whatever they were; and what leads
/// to balancers.
pub(crate) fn replace_rules(batch: &mut Messages, addresses: Addresses, balancers: &BTreeSet<Balancer>) {
    empty_set(batch, SetName::Balancers.set());
    for family in Family::ALL {
        // Without a chain's name: all rules of the table.
        batch.add(DELETE_RULE, 0, &fixed(family.number()), |attrs| attrs.text(RULE_TABLE, TABLE));
    }
    let mut made = Made::new();
    for chain in chains(addresses) {
        rules::add_chain(batch, &chain, &mut made);
    }
    for balancer in balancers {
        add_balancer(batch, *balancer, &mut made);
    }
}

/// Makes a balancer's chain, which must not be there yet, and what leads to it.
pub(crate) fn add_balancer(batch: &mut Messages, balancer: Balancer, made: &mut Made) {
    rules::add_chain(batch, &balancer.chain(), made);
    change_elements(batch, [&(Operation::Add, balancer.element())]);
}

/// Removes the chain of a balancer that nobody needs, and that has no rules any more. What leads to it is gone.
pub(crate) fn delete_balancer(batch: &mut Messages, balancer: Balancer) {
    batch.add(DELETE_CHAIN, 0, &fixed(Family::Inet.number()), |attrs| {
        attrs.text(chain::TABLE, TABLE);
        attrs.text(chain::NAME, &balancer.name());
    });
}

/// How many sets, counters and chains [`add_ruleset`] makes in a table.
pub(crate) fn members(family: Family, addresses: Addresses) -> u32 {
    let sets = SETS.iter().filter(|set| set.family == family).count();
    let chains = chains(addresses).iter().filter(|chain| chain.family == family).count();
    let counters = COUNTERS.iter().filter(|(at, _)| *at == family).count();
    // There are some hundred in all.
    (sets + chains + counters) as u32
}

fn add_set(batch: &mut Messages, definition: &Set) {
    let list = |attrs: &mut Attrs<'_>, kind, length, parts: &[Key]| {
        attrs.be32(kind, Set::type_number(parts));
        attrs.be32(length, Set::length(parts));
    };
    batch.add(NEW_SET, CREATE, &fixed(definition.family.number()), |attrs| {
        attrs.text(set::TABLE, TABLE);
        attrs.text(set::NAME, definition.text);
        let map = if definition.data.is_empty() { 0 } else { set::MAP };
        let more = match definition.kind {
            Kind::Plain | Kind::Counting | Kind::Beyond(..) => 0,
            Kind::Ranges => set::INTERVAL,
            Kind::Forgetting(_) => set::WITH_TIMEOUT,
        };
        attrs.be32(set::FLAGS, map | more);
        list(attrs, set::KEY_TYPE, set::KEY_LENGTH, definition.key);
        if !definition.data.is_empty() {
            list(attrs, set::DATA_TYPE, set::DATA_LENGTH, definition.data);
        }
        // Required by the kernel, and used by it only within one transaction.
        attrs.be32(set::ID, definition.name as u32 + 1);
        let is_in_host_order = |parts: &[Key]| matches!(parts, [part] if part.is_in_host_order());
        let orders = [(KEY_ORDER, definition.key), (DATA_ORDER, definition.data)];
        let host_orders = orders.into_iter().filter(|(_, parts)| is_in_host_order(parts));
        let userdata: Vec<u8> = host_orders.flat_map(|(kind, _)| host_order(kind)).collect();
        if !userdata.is_empty() {
            attrs.bytes(set::USERDATA, &userdata);
        }
        if let Kind::Forgetting(after) = definition.kind {
            attrs.be64(set::TIMEOUT, after.as_secs() * 1_000);
        }
        let mut each = |name, data: &dyn Fn(&mut Attrs<'_>)| {
            attrs.nest(set::EXPRESSION, |attrs| {
                attrs.text(object::EXPRESSION_NAME, name);
                attrs.nest(object::EXPRESSION_DATA, data);
            });
        };
        match definition.kind {
            Kind::Counting => each("counter", &|_| ()),
            Kind::Beyond(rate, burst) => each("limit", &|attrs| {
                attrs.be64(limit::RATE, rate.into());
                attrs.be64(limit::UNIT, 1);
                attrs.be32(limit::BURST, burst);
                attrs.be32(limit::FLAGS, limit::INVERTED);
            }),
            Kind::Plain | Kind::Ranges | Kind::Forgetting(_) => {}
        }
    });
}

/// In a set's user data, nft's own format of it: `NFTNL_UDATA_SET_KEYBYTEORDER`.
const KEY_ORDER: u8 = 0;
/// `NFTNL_UDATA_SET_DATABYTEORDER`.
const DATA_ORDER: u8 = 1;

/// That keys, or what they lead to, are in host order (`BYTEORDER_HOST_ENDIAN`), so that `nft list` can print them.
fn host_order(kind: u8) -> [u8; 6] {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [kind, 4, a, b, c, d]
}

/// Deletes all elements of a set.
fn empty_set(batch: &mut Messages, definition: &Set) {
    batch.add(DELETE_ELEMENT, 0, &fixed(definition.family.number()), |attrs| {
        attrs.text(element::TABLE, TABLE);
        attrs.text(element::SET, definition.text);
    });
}

/// Adds and deletes elements, in their order; neighbours of one set share a message.
pub(crate) fn change_elements<'a>(
    batch: &mut Messages,
    changes: impl IntoIterator<Item = &'a (Operation, Element)>,
) {
    let mut changes = changes.into_iter().peekable();
    while let Some((operation, first)) = changes.next() {
        let definition = first.set.set();
        let (kind, flags) = match operation {
            Operation::Add => (NEW_ELEMENT, CREATE),
            Operation::Delete => (DELETE_ELEMENT, 0),
        };
        batch.add(kind, flags, &fixed(definition.family.number()), |attrs| {
            attrs.text(element::TABLE, TABLE);
            attrs.text(element::SET, definition.text);
            attrs.nest(element::LIST, |attrs| {
                let start = attrs.len();
                put_element(attrs, *operation, first);
                while attrs.len() - start < ELEMENTS_BYTES
                    && let Some((_, next)) =
                        changes.next_if(|(next, element)| next == operation && element.set == first.set)
                {
                    put_element(attrs, *operation, next);
                }
            });
        });
    }
}

/// What happens to an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// It must not be there with other data.
    Add,
    /// It must be there.
    Delete,
}

fn put_element(attrs: &mut Attrs<'_>, operation: Operation, item: &Element) {
    attrs.nest(element::ITEM, |attrs| {
        attrs.nest(element::KEY, |attrs| attrs.bytes(element::VALUE, item.key.as_bytes()));
        if item.end {
            attrs.be32(element::FLAGS, element::INTERVAL_END);
        }
        if operation == Operation::Delete {
            return;
        }
        if !item.data.as_bytes().is_empty() {
            attrs.nest(element::DATA, |attrs| attrs.bytes(element::VALUE, item.data.as_bytes()));
        }
        if let Some(balancer) = item.goes_to {
            attrs.nest(element::DATA, |attrs| {
                attrs.nest(element::VERDICT, |attrs| {
                    attrs.be32(element::CODE, element::GOTO);
                    attrs.text(element::CHAIN, &balancer.name());
                });
            });
        }
        if !item.comment.is_empty() {
            attrs.bytes(element::USERDATA, &comment(&item.comment));
        }
    });
}

/// User data with a comment that `nft list` prints: type, length, text, NUL.
fn comment(text: &str) -> Vec<u8> {
    // Callers keep comments below 250 bytes.
    let mut bytes = vec![COMMENT, text.len() as u8 + 1];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The comment in user data.
pub(super) fn read_comment(userdata: &[u8]) -> Option<&str> {
    let (&[kind, length], text) = userdata.split_first_chunk::<2>()?;
    let text = text.get(..usize::from(length))?.strip_suffix(&[0])?;
    (kind == COMMENT).then(|| std::str::from_utf8(text).ok()).flatten()
}

/// Asks for a table.
pub(super) fn get_table(request: &mut Messages, family: Family) {
    request.add(GET_TABLE, ACK, &fixed(family.number()), |attrs| attrs.text(table::NAME, TABLE));
}

/// Asks for all chains of a family, other tables' too.
pub(super) fn get_chains(request: &mut Messages, family: Family) {
    request.add(GET_CHAIN, DUMP, &fixed(family.number()), |_| ());
}

/// Asks for a set's elements.
pub(super) fn get_elements(request: &mut Messages, definition: &Set) {
    request.add(GET_ELEMENT, DUMP, &fixed(definition.family.number()), |attrs| {
        attrs.text(element::TABLE, TABLE);
        attrs.text(element::SET, definition.text);
    });
}

/// Asks for some elements of a set, by their keys. One that is not there fails the whole question.
pub(super) fn get_some_elements(request: &mut Messages, definition: &Set, keys: &[Value]) {
    request.add(GET_ELEMENT, ACK, &fixed(definition.family.number()), |attrs| {
        attrs.text(element::TABLE, TABLE);
        attrs.text(element::SET, definition.text);
        attrs.nest(element::LIST, |attrs| {
            for key in keys {
                attrs.nest(element::ITEM, |attrs| {
                    attrs.nest(element::KEY, |attrs| attrs.bytes(element::VALUE, key.as_bytes()));
                });
            }
        });
    });
}

/// Asks for a named counter.
pub(super) fn get_counter(request: &mut Messages, family: Family, name: &str) {
    request.add(GET_OBJECT, ACK, &fixed(family.number()), |attrs| {
        attrs.text(object::TABLE, TABLE);
        attrs.text(object::NAME, name);
        attrs.be32(object::TYPE, object::COUNTER);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_round_trip() {
        let text = "x".repeat(250);
        assert_eq!(read_comment(&comment(&text)), Some(&*text));
        assert_eq!(read_comment(&[]), None);
        assert_eq!(read_comment(&[0, 9, 1]), None);
    }
}
