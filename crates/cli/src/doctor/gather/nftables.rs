//! The chains of nftables, by netlink (linux/netfilter/nf_tables.h): no `nft` need be installed.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::doctor::facts::{Chain, Known};

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = 10 << 8 | 4;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 1 | 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const FIXED: usize = HEADER + 4;
const ATTRIBUTE: usize = 4;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are no part of an attribute's type.
const TYPE_MASK: u16 = 0x3fff;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
/// `NF_DROP`.
const DROP: u32 = 0;

/// Every chain. The error says what to do.
pub(super) fn chains() -> Known<Vec<Chain>> {
    dump().map_err(|error| match error.raw_os_error() {
        Some(1) => "nftables can be read by root alone".to_owned(),
        // EPROTONOSUPPORT, EINVAL: nobody answers for nf_tables.
        Some(93 | 22) => "this kernel has no nf_tables".to_owned(),
        _ => format!("nftables: {error}"),
    })
}

fn dump() -> io::Result<Vec<Chain>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::with_capacity(FIXED);
    request.extend(u32::try_from(FIXED).unwrap_or_default().to_ne_bytes());
    request.extend(GET_CHAIN.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    // Sequence, port, then the family (0: each), the version and the resource id.
    request.extend([0; 12]);
    socket.send(&request, 0)?;
    let mut chains = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((kind, message)) = next(&mut rest, HEADER) {
            match kind {
                DONE => return Ok(chains),
                ERROR => {
                    let errno = message.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok());
                    return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(errno.unwrap_or_default())));
                }
                _ => chains.extend(chain(message)),
            }
        }
    }
}

/// Cuts the next message or attribute off: its type, and all of it. A message begins with four bytes of length and two of type, an
/// attribute with two of each.
fn next<'a>(rest: &mut &'a [u8], header: usize) -> Option<(u16, &'a [u8])> {
    let short = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let (length, kind) = if header == HEADER {
        (usize::try_from(u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?)).ok()?, short(4)?)
    } else {
        (usize::from(short(0)?), short(2)? & TYPE_MASK)
    };
    let whole = rest.get(..length).filter(|_| length >= header)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, whole))
}

fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    while let Some((kind, whole)) = next(&mut rest, ATTRIBUTE) {
        if kind == wanted {
            return whole.get(ATTRIBUTE..);
        }
    }
    None
}

fn chain(message: &[u8]) -> Option<Chain> {
    let attributes = message.get(FIXED..)?;
    let text = |kind| {
        let bytes = attribute(attributes, kind)?;
        Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
    };
    let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
    let hook = attribute(attributes, CHAIN_HOOK).and_then(|hook| number(attribute(hook, HOOK_NUMBER)?));
    Some(Chain {
        family: family(*message.get(HEADER)?),
        table: text(CHAIN_TABLE)?,
        name: text(CHAIN_NAME)?,
        hook: hook.map(name),
        drops: attribute(attributes, CHAIN_POLICY).and_then(number) == Some(DROP),
    })
}

fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "?",
    }
}

/// `enum nf_inet_hooks`; the bridge's are numbered alike.
fn name(hook: u32) -> &'static str {
    ["prerouting", "input", "forward", "output", "postrouting"]
        .get(hook as usize)
        .copied()
        .unwrap_or("ingress")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_chain_is_read() {
        let nested = put(HOOK_NUMBER, &1u32.to_be_bytes());
        let mut message = vec![0; HEADER];
        message.extend([1, 0, 0, 0]);
        for (kind, value) in [
            (CHAIN_TABLE, b"filter\0".as_slice()),
            (CHAIN_NAME, b"in\0"),
            (CHAIN_HOOK | 0x8000, &nested),
            (CHAIN_POLICY, &[0; 4]),
        ] {
            message.extend(put(kind, value));
        }
        let found = chain(&message).unwrap();
        assert_eq!((found.family, found.table.as_str(), found.name.as_str()), ("inet", "filter", "in"));
        assert_eq!((found.hook, found.drops), (Some("input"), true));
        // Cut anywhere, nothing breaks.
        for length in 0..message.len() {
            drop(chain(&message[..length]));
        }
    }
}
