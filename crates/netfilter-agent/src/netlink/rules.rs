//! Chains and rules, through libnftnl.

use std::ffi::CString;

use nftnl::{Batch, MsgType, ProtoFamily, Table};

use super::{
    attr::Attrs,
    expr::Lowered,
    message::{HEADER, Messages, messages},
    nftables::{Made, SUBSYSTEM},
};
use crate::ruleset::{Base, Chain, ChainKind, Family, Hook, TABLE};

/// `NLM_F_CREATE`, `_EXCL`, `_APPEND`: what libnftnl's flags may say. Its request for an acknowledgement of every single
/// message would overrun the socket.
const KEPT_FLAGS: u16 = 0x0e00;

/// Adds a chain and its rules.
pub(super) fn add_chain(batch: &mut Messages, chain: &Chain, made: &mut Made) {
    let family = match chain.family {
        Family::Inet => ProtoFamily::Inet,
        Family::Bridge => ProtoFamily::Bridge,
    };
    let table = Table::new(c_text(TABLE), family);
    let mut kernel_chain = nftnl::Chain::new(c_text(&chain.name), &table);
    if let Some(base) = chain.base {
        hang(&mut kernel_chain, base);
    }
    let mut built = Batch::new();
    built.add(&kernel_chain, MsgType::Add);
    for rule in &chain.rules {
        let mut kernel_rule = nftnl::Rule::new(&kernel_chain);
        for step in &rule.steps {
            kernel_rule.add_expr(&Lowered(step));
        }
        built.add(&kernel_rule, MsgType::Add);
    }
    let names = std::iter::once(format!("chain {} {}", chain.family, chain.name))
        .chain(chain.rules.iter().map(|rule| rule.words.clone()));
    let built = built.finalize();
    let pages: Vec<u8> = (&built).into_iter().flatten().copied().collect();
    let parts = messages(&pages).filter(|message| message.kind & 0xff00 == SUBSYSTEM);
    for (name, part) in names.zip(parts) {
        made.push((batch.next_sequence(), name));
        batch.add(part.kind, part.flags & KEPT_FLAGS, part.body, |_: &mut Attrs<'_>| ());
    }
    debug_assert!(pages.len() > HEADER);
}

fn hang(chain: &mut nftnl::Chain<'_>, Base { kind, hook, priority }: Base) {
    chain.set_type(match kind {
        ChainKind::Nat => nftnl::ChainType::Nat,
        ChainKind::Filter => nftnl::ChainType::Filter,
    });
    let hook = match hook {
        Hook::Prerouting => nftnl::Hook::PreRouting,
        Hook::Input => nftnl::Hook::In,
        Hook::Forward => nftnl::Hook::Forward,
        Hook::Output => nftnl::Hook::Out,
        Hook::Postrouting => nftnl::Hook::PostRouting,
    };
    chain.set_hook(hook, priority);
    chain.set_policy(nftnl::Policy::Accept);
}

/// Names are constants without a NUL.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}
