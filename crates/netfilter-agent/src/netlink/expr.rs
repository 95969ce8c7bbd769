//! Expressions for libnftnl. Its safe API has one register, no maps, no inverted lookups, and lacks most of what we load.
//! All `unsafe` code of the agent is here.

#![allow(unsafe_code, reason = "libnftnl's setters; each block says why it is sound")]

use std::{
    ffi::{CStr, CString},
    ptr::NonNull,
};

use nftnl::{
    expr::Expression as LibraryExpression,
    nftnl_sys::{self as sys, libc},
};

use super::rules::c_text;
use crate::ruleset::{Comparison, Expression, Fib, Known, PacketPart, Register, SetName, Verdict};

/// A step of a rule on its way into libnftnl.
pub(super) struct Lowered<'a>(pub(super) &'a Expression);

/// `NFT_META_IIFKIND`, which libc does not have yet.
const META_IIFKIND: i32 = 26;
/// `NFT_META_OIFKIND`, as well.
const META_OIFKIND: i32 = 27;
/// `NFT_OBJECT_COUNTER`, which it does not have either.
const COUNTER_OBJECT: u32 = 1;
/// `NFT_SOCKET_TRANSPARENT`.
const SOCKET_TRANSPARENT: u32 = 0;
/// `NFT_SOCKET_WILDCARD`.
const SOCKET_WILDCARD: u32 = 2;
/// `NFT_REG32_00`: registers of four bytes begin here.
const FIRST_REGISTER: u32 = 8;
/// `IP_CT_DIR_ORIGINAL`.
const ORIGINAL: u8 = 0;

/// What an attribute of an expression is set to.
enum Setting {
    Byte(u8),
    Number(u32),
    Text(CString),
    Bytes(Vec<u8>),
}

use Setting::{Byte, Bytes, Number, Text};

impl LibraryExpression for Lowered<'_> {
    fn to_expr(&self, _rule: &nftnl::Rule<'_>) -> NonNull<sys::nftnl_expr> {
        let (name, settings) = lower(self.0);
        build(name, &settings)
    }
}

fn build(name: &CStr, settings: &[(u32, Setting)]) -> NonNull<sys::nftnl_expr> {
    // SAFETY: `name` is a C string that outlives the call; libnftnl looks it up in its own table.
    let Some(expr) = NonNull::new(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }) else {
        // Out of memory for a few bytes, as everywhere in Rust; the names are libnftnl's own.
        std::process::abort();
    };
    for (attribute, setting) in settings {
        // libnftnl numbers the attributes of an expression from 1 to 10 or so.
        let attribute = *attribute as u16;
        // SAFETY: `expr` was allocated above and not freed. The attributes in `lower` are those of this very kind of expression, with
        // their types as libnftnl 1.2.4 reads them; it copies text and bytes before it returns.
        unsafe {
            match setting {
                Byte(value) => sys::nftnl_expr_set_u8(expr.as_ptr(), attribute, *value),
                Number(value) => sys::nftnl_expr_set_u32(expr.as_ptr(), attribute, *value),
                Text(value) => {
                    sys::nftnl_expr_set_str(expr.as_ptr(), attribute, value.as_ptr());
                }
                Bytes(value) => {
                    sys::nftnl_expr_set(expr.as_ptr(), attribute, value.as_ptr().cast(), value.len() as u32);
                }
            }
        }
    }
    expr
}

/// libnftnl's name of the expression, and its attributes.
fn lower(expression: &Expression) -> (&'static CStr, Vec<(u32, Setting)>) {
    match expression {
        Expression::Packet(part, to) => (c"payload", packet(*part, *to)),
        Expression::Known(known, to) => lower_known(*known, *to),
        Expression::Fib(what, to) => (c"fib", fib(*what, *to)),
        Expression::Mask(at, mask) => (
            c"bitwise",
            vec![
                (sys::NFTNL_EXPR_BITWISE_SREG, register(*at)),
                (sys::NFTNL_EXPR_BITWISE_DREG, register(*at)),
                (sys::NFTNL_EXPR_BITWISE_LEN, Number(u32::try_from(mask.len()).unwrap_or(u32::MAX))),
                (sys::NFTNL_EXPR_BITWISE_MASK, Bytes(mask.clone())),
                (sys::NFTNL_EXPR_BITWISE_XOR, Bytes(vec![0; mask.len()])),
            ],
        ),
        Expression::SetBits(at, bits) => (
            c"bitwise",
            vec![
                (sys::NFTNL_EXPR_BITWISE_SREG, register(*at)),
                (sys::NFTNL_EXPR_BITWISE_DREG, register(*at)),
                (sys::NFTNL_EXPR_BITWISE_LEN, Number(4)),
                (sys::NFTNL_EXPR_BITWISE_MASK, Bytes(bits.map(|byte| !byte).to_vec())),
                (sys::NFTNL_EXPR_BITWISE_XOR, Bytes(bits.to_vec())),
            ],
        ),
        Expression::Compare(at, comparison, value) => (
            c"cmp",
            vec![
                (sys::NFTNL_EXPR_CMP_SREG, register(*at)),
                (
                    sys::NFTNL_EXPR_CMP_OP,
                    Number(match comparison {
                        Comparison::Equal => libc::NFT_CMP_EQ,
                        Comparison::Different => libc::NFT_CMP_NEQ,
                        Comparison::AtMost => libc::NFT_CMP_LTE,
                    } as u32),
                ),
                (sys::NFTNL_EXPR_CMP_DATA, Bytes(value.clone())),
            ],
        ),
        Expression::In(set, key) => (c"lookup", lookup(*set, *key)),
        Expression::NotIn(set, key) => {
            let mut settings = lookup(*set, *key);
            settings.push((sys::NFTNL_EXPR_LOOKUP_FLAGS, Number(libc::NFT_LOOKUP_F_INV as u32)));
            (c"lookup", settings)
        }
        Expression::Map(set, key, to) => {
            let mut settings = lookup(*set, *key);
            settings.push((sys::NFTNL_EXPR_LOOKUP_DREG, register(*to)));
            (c"lookup", settings)
        }
        Expression::Follow(set, key) => {
            let mut settings = lookup(*set, *key);
            settings.push((sys::NFTNL_EXPR_LOOKUP_DREG, Number(libc::NFT_REG_VERDICT as u32)));
            (c"lookup", settings)
        }
        Expression::Random(below, to) => (
            c"numgen",
            vec![
                (sys::NFTNL_EXPR_NG_DREG, register(*to)),
                (sys::NFTNL_EXPR_NG_MODULUS, Number(*below)),
                (sys::NFTNL_EXPR_NG_TYPE, Number(libc::NFT_NG_RANDOM as u32)),
            ],
        ),
        Expression::Constant(value, to) => (
            c"immediate",
            vec![
                (sys::NFTNL_EXPR_IMM_DREG, register(*to)),
                (sys::NFTNL_EXPR_IMM_DATA, Bytes(value.to_vec())),
            ],
        ),
        Expression::MarkWith(from) => (c"meta", set_meta(libc::NFT_META_MARK, *from)),
        Expression::PriorityWith(from) => (c"meta", set_meta(libc::NFT_META_PRIORITY, *from)),
        Expression::Count(counter) => (
            c"objref",
            vec![
                (sys::NFTNL_EXPR_OBJREF_IMM_TYPE, Number(COUNTER_OBJECT)),
                (sys::NFTNL_EXPR_OBJREF_IMM_NAME, Text(c_text(counter))),
            ],
        ),
        Expression::TranslateTo(Register(address)) => (
            c"nat",
            vec![
                (sys::NFTNL_EXPR_NAT_TYPE, Number(libc::NFT_NAT_DNAT as u32)),
                (sys::NFTNL_EXPR_NAT_FAMILY, Number(libc::NFPROTO_IPV4 as u32)),
                (sys::NFTNL_EXPR_NAT_REG_ADDR_MIN, register(Register(*address))),
                (sys::NFTNL_EXPR_NAT_REG_PROTO_MIN, register(Register(address + 1))),
            ],
        ),
        Expression::Masquerade => (c"masq", Vec::new()),
        Expression::Verdict(verdict) => lower_verdict(*verdict),
    }
}

fn register(Register(index): Register) -> Setting {
    Number(FIRST_REGISTER + index)
}

fn set_meta(key: i32, from: Register) -> Vec<(u32, Setting)> {
    vec![(sys::NFTNL_EXPR_META_KEY, Number(key as u32)), (sys::NFTNL_EXPR_META_SREG, register(from))]
}

fn lookup(set: SetName, key: Register) -> Vec<(u32, Setting)> {
    vec![
        (sys::NFTNL_EXPR_LOOKUP_SREG, register(key)),
        (sys::NFTNL_EXPR_LOOKUP_SET, Text(c_text(set.set().text))),
    ]
}

/// Offsets: RFC 791 §3.1, RFC 8200 §3, RFC 826, RFC 4443 §2.1, RFC 9293 §3.1 (UDP's is the same), IEEE 802.3.
fn packet(part: PacketPart, to: Register) -> Vec<(u32, Setting)> {
    let (base, offset, length) = match part {
        PacketPart::SourceMac => (libc::NFT_PAYLOAD_LL_HEADER, 6, 6),
        PacketPart::EtherType => (libc::NFT_PAYLOAD_LL_HEADER, 12, 2),
        PacketPart::ArpFormat => (libc::NFT_PAYLOAD_NETWORK_HEADER, 0, 6),
        PacketPart::ArpSenderMac => (libc::NFT_PAYLOAD_NETWORK_HEADER, 8, 6),
        PacketPart::ArpSenderIp => (libc::NFT_PAYLOAD_NETWORK_HEADER, 14, 4),
        PacketPart::SourceAddress6 => (libc::NFT_PAYLOAD_NETWORK_HEADER, 8, 16),
        PacketPart::DestinationAddress6 => (libc::NFT_PAYLOAD_NETWORK_HEADER, 24, 16),
        PacketPart::Icmpv6Type => (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1),
        PacketPart::SourceAddress => (libc::NFT_PAYLOAD_NETWORK_HEADER, 12, 4),
        PacketPart::DestinationAddress => (libc::NFT_PAYLOAD_NETWORK_HEADER, 16, 4),
        PacketPart::DestinationPort => (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2),
        PacketPart::TcpFlags => (libc::NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1),
    };
    vec![
        (sys::NFTNL_EXPR_PAYLOAD_DREG, register(to)),
        (sys::NFTNL_EXPR_PAYLOAD_BASE, Number(base as u32)),
        (sys::NFTNL_EXPR_PAYLOAD_OFFSET, Number(offset)),
        (sys::NFTNL_EXPR_PAYLOAD_LEN, Number(length)),
    ]
}

/// `enum nft_fib_result` and `enum nft_fib_flags` (linux/netfilter/nf_tables.h).
fn fib(what: Fib, to: Register) -> Vec<(u32, Setting)> {
    const RESULT_INTERFACE: u32 = 1;
    const RESULT_TYPE: u32 = 3;
    const BY_SOURCE: u32 = 1;
    const BY_DESTINATION: u32 = 2;
    const BY_INPUT: u32 = 8;
    const PRESENT: u32 = 32;
    let (result, flags) = match what {
        Fib::DestinationType => (RESULT_TYPE, BY_DESTINATION),
        Fib::SourceByInput => (RESULT_INTERFACE, BY_SOURCE | BY_INPUT | PRESENT),
    };
    vec![
        (sys::NFTNL_EXPR_FIB_DREG, register(to)),
        (sys::NFTNL_EXPR_FIB_RESULT, Number(result)),
        (sys::NFTNL_EXPR_FIB_FLAGS, Number(flags)),
    ]
}

fn lower_known(known: Known, to: Register) -> (&'static CStr, Vec<(u32, Setting)>) {
    let meta = |key: i32| {
        (
            c"meta",
            vec![(sys::NFTNL_EXPR_META_KEY, Number(key as u32)), (sys::NFTNL_EXPR_META_DREG, register(to))],
        )
    };
    let ct = |key: i32| {
        (c"ct", vec![(sys::NFTNL_EXPR_CT_KEY, Number(key as u32)), (sys::NFTNL_EXPR_CT_DREG, register(to))])
    };
    let original = |key: i32| {
        let (name, mut settings) = ct(key);
        settings.push((sys::NFTNL_EXPR_CT_DIR, Byte(ORIGINAL)));
        (name, settings)
    };
    let socket = |key| {
        (
            c"socket",
            vec![(sys::NFTNL_EXPR_SOCKET_KEY, Number(key)), (sys::NFTNL_EXPR_SOCKET_DREG, register(to))],
        )
    };
    match known {
        Known::InputName => meta(libc::NFT_META_IIFNAME),
        Known::InputKind => meta(META_IIFKIND),
        Known::InputType => meta(libc::NFT_META_IIFTYPE),
        Known::SocketUid => meta(libc::NFT_META_SKUID),
        Known::OutputName => meta(libc::NFT_META_OIFNAME),
        Known::OutputKind => meta(META_OIFKIND),
        Known::Mark => meta(libc::NFT_META_MARK),
        Known::Priority => meta(libc::NFT_META_PRIORITY),
        Known::Network => meta(libc::NFT_META_NFPROTO),
        Known::Transport => meta(libc::NFT_META_L4PROTO),
        Known::EtherType => meta(libc::NFT_META_PROTOCOL),
        Known::State => ct(libc::NFT_CT_STATE),
        Known::Status => ct(libc::NFT_CT_STATUS),
        Known::Direction => ct(libc::NFT_CT_DIRECTION),
        Known::OriginalSource => original(libc::NFT_CT_SRC_IP),
        Known::OriginalDestination => original(libc::NFT_CT_DST_IP),
        Known::OriginalProtocol => original(libc::NFT_CT_PROTOCOL),
        Known::OriginalPort => original(libc::NFT_CT_PROTO_DST),
        Known::SocketTransparent => socket(SOCKET_TRANSPARENT),
        Known::SocketWildcard => socket(SOCKET_WILDCARD),
    }
}

fn lower_verdict(verdict: Verdict) -> (&'static CStr, Vec<(u32, Setting)>) {
    let immediate = |code: i32| {
        vec![
            (sys::NFTNL_EXPR_IMM_DREG, Number(libc::NFT_REG_VERDICT as u32)),
            (sys::NFTNL_EXPR_IMM_VERDICT, Number(code as u32)),
        ]
    };
    let reject = |kind: i32, code: i32| {
        (
            c"reject",
            vec![
                (sys::NFTNL_EXPR_REJECT_TYPE, Number(kind as u32)),
                (sys::NFTNL_EXPR_REJECT_CODE, Byte(code as u8)),
            ],
        )
    };
    match verdict {
        Verdict::Accept => (c"immediate", immediate(libc::NF_ACCEPT)),
        Verdict::Drop => (c"immediate", immediate(libc::NF_DROP)),
        Verdict::Return => (c"immediate", immediate(libc::NFT_RETURN)),
        Verdict::Goto(chain) | Verdict::Jump(chain) => {
            let how = if matches!(verdict, Verdict::Jump(_)) { libc::NFT_JUMP } else { libc::NFT_GOTO };
            let mut settings = immediate(how);
            settings.push((sys::NFTNL_EXPR_IMM_CHAIN, Text(c_text(chain))));
            (c"immediate", settings)
        }
        Verdict::Reset => reject(libc::NFT_REJECT_TCP_RST, 0),
        Verdict::AdminProhibited => {
            reject(libc::NFT_REJECT_ICMPX_UNREACH, libc::NFT_REJECT_ICMPX_ADMIN_PROHIBITED)
        }
    }
}
