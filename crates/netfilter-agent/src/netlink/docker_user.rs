//! The one rule that the agent puts into somebody else's table: in DOCKER-USER, the chain that Docker calls before its own
//! rules and leaves to its users. It is what `iptables -I DOCKER-USER -m mark --mark M/M -j ACCEPT` makes.

use std::io;

use super::{
    Message, NETFILTER, Socket,
    attr::{Attributes, Attrs},
    message::{ACK, CREATE, DUMP, Messages},
    nftables::{self, FIXED, SUBSYSTEM, chain, element, fixed, object},
};
use crate::ruleset::BRIDGED;

/// `NFPROTO_IPV4`: iptables-nft's tables are of this family.
const IPV4: u8 = 2;
const TABLE: &str = "filter";
const CHAIN: &str = "DOCKER-USER";

const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DELETE_RULE: u16 = SUBSYSTEM | 8;

/// `NFTA_RULE_*`.
mod rule {
    pub(super) const TABLE: u16 = 1;
    pub(super) const CHAIN: u16 = 2;
    pub(super) const HANDLE: u16 = 3;
    pub(super) const EXPRESSIONS: u16 = 4;
    /// `NFTA_LIST_ELEM`.
    pub(super) const ITEM: u16 = 1;
}

/// `NFTA_MATCH_*`, and `struct xt_mark_mtinfo1` in whole words of eight bytes, as iptables writes it: mark, mask, inverted.
mod xt_match {
    pub(super) const NAME: u16 = 1;
    pub(super) const REVISION: u16 = 2;
    pub(super) const INFO: u16 = 3;
    pub(super) const INFO_BYTES: usize = 16;
    pub(super) const MARK_REVISION: u32 = 1;
}

/// `NFTA_META_*`, `NFTA_BITWISE_*`, `NFTA_CMP_*`, `NFTA_IMMEDIATE_*` and their values.
mod native {
    pub(super) const META_REGISTER: u16 = 1;
    pub(super) const META_KEY: u16 = 2;
    pub(super) const META_MARK: u32 = 3;
    pub(super) const BITWISE_FROM: u16 = 1;
    pub(super) const BITWISE_TO: u16 = 2;
    pub(super) const BITWISE_LENGTH: u16 = 3;
    pub(super) const BITWISE_MASK: u16 = 4;
    pub(super) const BITWISE_XOR: u16 = 5;
    pub(super) const COMPARE_REGISTER: u16 = 1;
    pub(super) const COMPARE_HOW: u16 = 2;
    pub(super) const COMPARE_DATA: u16 = 3;
    pub(super) const EQUAL: u32 = 0;
    pub(super) const IMMEDIATE_REGISTER: u16 = 1;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
    pub(super) const VERDICT_REGISTER: u32 = 0;
    pub(super) const REGISTER: u32 = 1;
    pub(super) const ACCEPT: u32 = 1;
}

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No such chain: no Docker, or one that does not use iptables-nft.
    NoChain,
    /// The chain, with these rules that are ours, by their handles.
    Rules(Vec<u64>),
}

/// Looks.
///
/// # Errors
/// The kernel's.
pub(crate) fn look(socket: &mut Socket) -> io::Result<Found> {
    let mut request = socket.request();
    request.add(GET_CHAIN, ACK, &fixed(IPV4), |attrs| {
        attrs.text(chain::TABLE, TABLE);
        attrs.text(chain::NAME, CHAIN);
    });
    match socket.ask(&request, |_| None::<()>) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::NoChain),
        result => result?,
    };
    let mut request = socket.request();
    request.add(GET_RULE, DUMP, &fixed(IPV4), put_place);
    let rules = socket.ask(&request, |message: Message<'_>| {
        let attrs = message.attributes(FIXED);
        is_ours(attrs.nested(rule::EXPRESSIONS)?).then(|| attrs.be64(rule::HANDLE)).flatten()
    })?;
    Ok(Found::Rules(rules))
}

/// Puts the rule at the chain's head.
///
/// # Errors
/// The kernel's.
pub(crate) fn insert(socket: &mut Socket) -> io::Result<()> {
    // iptables before 1.8.8 does not see the native form of the match, and would list, save and restore a rule that accepts all.
    change(socket, |batch| add(batch, put_xt_match))
        .or_else(|_| change(socket, |batch| add(batch, put_native)))
}

/// Removes a rule that [`look`] found.
///
/// # Errors
/// The kernel's.
pub(crate) fn delete(socket: &mut Socket, handle: u64) -> io::Result<()> {
    change(socket, |batch| {
        batch.add(DELETE_RULE, 0, &fixed(IPV4), |attrs| {
            put_place(attrs);
            attrs.bytes(rule::HANDLE, &handle.to_be_bytes());
        });
    })
}

/// A socket to do it with.
///
/// # Errors
/// The system's.
pub(crate) fn open() -> io::Result<Socket> {
    Socket::open(NETFILTER)
}

fn change(socket: &mut Socket, fill: impl FnOnce(&mut Messages)) -> io::Result<()> {
    let mut batch = socket.request();
    nftables::begin(&mut batch);
    fill(&mut batch);
    nftables::end(&mut batch);
    match socket.transact(&batch)?.first() {
        None => Ok(()),
        Some(refusal) => Err(io::Error::from_raw_os_error(refusal.errno)),
    }
}

fn put_place(attrs: &mut Attrs<'_>) {
    attrs.text(rule::TABLE, TABLE);
    attrs.text(rule::CHAIN, CHAIN);
}

/// `MATCH counter accept`
fn add(batch: &mut Messages, put_match: fn(&mut Attrs<'_>)) {
    batch.add(NEW_RULE, CREATE, &fixed(IPV4), |attrs| {
        put_place(attrs);
        attrs.nest(rule::EXPRESSIONS, |attrs| {
            put_match(attrs);
            put(attrs, "counter", |_| ());
            put(attrs, "immediate", |attrs| {
                attrs.be32(native::IMMEDIATE_REGISTER, native::VERDICT_REGISTER);
                attrs.nest(native::IMMEDIATE_DATA, |attrs| {
                    attrs.nest(element::VERDICT, |attrs| attrs.be32(element::CODE, native::ACCEPT));
                });
            });
        });
    });
}

fn put(attrs: &mut Attrs<'_>, name: &str, data: impl FnOnce(&mut Attrs<'_>)) {
    attrs.nest(rule::ITEM, |attrs| {
        attrs.text(object::EXPRESSION_NAME, name);
        attrs.nest(object::EXPRESSION_DATA, data);
    });
}

/// `-m mark --mark M/M`
fn put_xt_match(attrs: &mut Attrs<'_>) {
    put(attrs, "match", |attrs| {
        attrs.text(xt_match::NAME, "mark");
        attrs.be32(xt_match::REVISION, xt_match::MARK_REVISION);
        attrs.bytes(xt_match::INFO, &mark_info());
    });
}

fn mark_info() -> [u8; xt_match::INFO_BYTES] {
    let mut info = [0; xt_match::INFO_BYTES];
    info[..4].copy_from_slice(&BRIDGED.to_ne_bytes());
    info[4..8].copy_from_slice(&BRIDGED.to_ne_bytes());
    info
}

/// `meta mark & M == M`
fn put_native(attrs: &mut Attrs<'_>) {
    let value = |attrs: &mut Attrs<'_>, kind, number: u32| {
        attrs.nest(kind, |attrs| attrs.bytes(element::VALUE, &number.to_ne_bytes()));
    };
    put(attrs, "meta", |attrs| {
        attrs.be32(native::META_KEY, native::META_MARK);
        attrs.be32(native::META_REGISTER, native::REGISTER);
    });
    put(attrs, "bitwise", |attrs| {
        attrs.be32(native::BITWISE_FROM, native::REGISTER);
        attrs.be32(native::BITWISE_TO, native::REGISTER);
        attrs.be32(native::BITWISE_LENGTH, 4);
        value(attrs, native::BITWISE_MASK, BRIDGED);
        value(attrs, native::BITWISE_XOR, 0);
    });
    put(attrs, "cmp", |attrs| {
        attrs.be32(native::COMPARE_REGISTER, native::REGISTER);
        attrs.be32(native::COMPARE_HOW, native::EQUAL);
        value(attrs, native::COMPARE_DATA, BRIDGED);
    });
}

/// Whether a rule is ours in either form: iptables-restore may have made one of the other.
fn is_ours(expressions: Attributes<'_>) -> bool {
    let mut steps = expressions.into_iter().filter_map(|(_, item)| {
        let item = Attributes(item);
        let name = item.text(object::EXPRESSION_NAME)?;
        (name != "counter").then_some((name, item.nested(object::EXPRESSION_DATA).unwrap_or(Attributes(&[]))))
    });
    let number = |data: Attributes<'_>, kind| {
        let value = data.nested(kind)?.get(element::VALUE)?;
        value.try_into().ok().map(u32::from_ne_bytes)
    };
    let matches = match steps.next() {
        Some(("match", data)) => {
            data.text(xt_match::NAME) == Some("mark")
                && data.be32(xt_match::REVISION) == Some(xt_match::MARK_REVISION)
                // Behind it is padding, which the kernel need not give back.
                && data.get(xt_match::INFO).is_some_and(|info| info.starts_with(&mark_info()[..9]))
        }
        Some(("meta", meta)) => match (steps.next(), steps.next()) {
            (Some(("bitwise", bitwise)), Some(("cmp", compare))) => {
                meta.be32(native::META_KEY) == Some(native::META_MARK)
                    && number(bitwise, native::BITWISE_MASK) == Some(BRIDGED)
                    && number(bitwise, native::BITWISE_XOR) == Some(0)
                    && compare.be32(native::COMPARE_HOW) == Some(native::EQUAL)
                    && number(compare, native::COMPARE_DATA) == Some(BRIDGED)
            }
            _ => false,
        },
        _ => false,
    };
    let accepts = |(name, data): (&str, Attributes<'_>)| {
        let verdict = data.nested(native::IMMEDIATE_DATA).and_then(|data| data.nested(element::VERDICT));
        name == "immediate" && verdict.and_then(|verdict| verdict.be32(element::CODE)) == Some(native::ACCEPT)
    };
    matches && steps.next().is_some_and(accepts) && steps.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::messages;

    fn ours(put_match: fn(&mut Attrs<'_>)) -> bool {
        let mut batch = Messages::new(1);
        add(&mut batch, put_match);
        let is_ours = |message: Message<'_>| {
            message.attributes(FIXED).nested(rule::EXPRESSIONS).is_some_and(super::is_ours)
        };
        messages(batch.as_bytes()).all(is_ours)
    }

    #[test]
    fn both_forms_are_ours_and_no_other() {
        assert!(ours(put_xt_match) && ours(put_native));
        assert!(!ours(|_| ()), "accepts all");
        assert!(!ours(|attrs| {
            put_native(attrs);
            put_native(attrs);
        }));
        assert!(!ours(|attrs| put(attrs, "match", |attrs| attrs.text(xt_match::NAME, "mark"))));
    }
}
