//! What chains and rules are.

use std::borrow::Cow;

use super::{Expression, Family};

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainKind {
    /// Only connections' first packets come here.
    Nat,
    /// All packets come here.
    Filter,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Everything that arrives.
    Prerouting,
    /// What is for this host itself.
    Input,
    /// What passes through.
    Forward,
    /// What local processes send.
    Output,
    /// Everything that leaves.
    Postrouting,
}

/// A chain that the kernel itself calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: ChainKind,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A rule: what `nft list` prints for it, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) words: String,
    pub(crate) steps: Vec<Expression>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) family: Family,
    pub(crate) name: Cow<'static, str>,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

impl Chain {
    /// The chain in nft's words.
    pub(crate) fn words(&self) -> String {
        let mut words = format!("{} chain {} {{\n", self.family, self.name);
        if let Some(Base { kind, hook, priority }) = self.base {
            words += &format!("\ttype {kind:?} hook {hook:?} priority {priority}; policy accept;\n")
                .to_lowercase();
        }
        for rule in &self.rules {
            words += &format!("\t{}\n", rule.words);
        }
        words + "}\n"
    }
}
