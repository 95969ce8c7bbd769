//! Which addresses a user's network gets. Pure.

use std::{net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use steppe_model::UserName;
use thiserror::Error;

use crate::plan::spread;

/// The length of a network's prefix: room for 126 addresses of Docker's and as many of ours.
pub(super) const PREFIX_LEN: u8 = 24;

/// Addresses that somebody has, and who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) block: Ipv4Net,
    /// As in "in the way: …".
    pub(super) by: Arc<str>,
}

/// A subnet, and what was in the way of the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) subnet: Ipv4Net,
    pub(super) moved: Option<Arc<str>>,
}

/// Everything is taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "no /{PREFIX_LEN} of {block} is free on this host ({usual}: {by}): give control, on every host, another --user-cidr"
)]
pub(super) struct NoRoom {
    block: Ipv4Net,
    usual: Ipv4Net,
    by: Arc<str>,
}

/// The subnet that a user's network has on every host where nothing is in the way.
pub(super) fn usual(user: &UserName, block: Ipv4Net) -> Ipv4Net {
    nth(block, first(user, block))
}

/// The usual subnet, or the next that is free.
pub(super) fn choose(user: &UserName, block: Ipv4Net, taken: &[Taken]) -> Result<Choice, NoRoom> {
    let in_the_way = |subnet: Ipv4Net| taken.iter().find(|taken| overlap(taken.block, subnet));
    let (first, usual) = (first(user, block), usual(user, block));
    let Some(moved) = in_the_way(usual).map(|taken| taken.by.clone()) else {
        return Ok(Choice { subnet: usual, moved: None });
    };
    let others = (first + 1..places(block)).chain(0..first).map(|place| nth(block, place));
    match others.into_iter().find(|subnet| in_the_way(*subnet).is_none()) {
        Some(subnet) => Ok(Choice { subnet, moved: Some(moved) }),
        None => Err(NoRoom { block, usual, by: moved }),
    }
}

/// The host's own address in a subnet: the first.
pub(super) fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// The half that Docker takes addresses from, so that ours, from the other, are never its.
pub(super) fn dockers_half(subnet: Ipv4Net) -> Ipv4Net {
    Ipv4Net::new_assert(subnet.network(), (subnet.prefix_len() + 1).min(32))
}

/// The half that control takes addresses from.
pub(super) fn own_half(subnet: Ipv4Net) -> Ipv4Net {
    let length = (subnet.prefix_len() + 1).min(32);
    let half = 1_u32.checked_shl(u32::from(32 - length)).unwrap_or(0);
    Ipv4Net::new_assert((u32::from(subnet.network()) | half).into(), length)
}

fn first(user: &UserName, block: Ipv4Net) -> u32 {
    u32::try_from(spread(user.as_str()) % u64::from(places(block))).unwrap_or(0)
}

fn places(block: Ipv4Net) -> u32 {
    1 << PREFIX_LEN.saturating_sub(block.prefix_len())
}

fn nth(block: Ipv4Net, place: u32) -> Ipv4Net {
    let ip = u32::from(block.network()) + (place << (32 - PREFIX_LEN));
    Ipv4Net::new_assert(ip.into(), PREFIX_LEN)
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn block() -> Ipv4Net {
        "10.208.0.0/12".parse().unwrap()
    }

    fn taken(block: Ipv4Net, by: &str) -> Taken {
        Taken { block, by: by.into() }
    }

    #[test]
    fn a_user_has_the_same_subnet_on_every_host() {
        // Never change: hosts of two releases must agree.
        for (user, subnet) in [("alice", "10.216.237.0/24"), ("bob", "10.215.188.0/24")] {
            assert_eq!(usual(&user.parse().unwrap(), block()).to_string(), subnet);
        }
    }

    #[test]
    fn what_is_in_the_way_is_passed_by_and_named() {
        let alice: UserName = "alice".parse().unwrap();
        let usual = usual(&alice, block());
        assert_eq!(choose(&alice, block(), &[]), Ok(Choice { subnet: usual, moved: None }));
        let inside = Ipv4Net::new_assert(usual.broadcast(), 32);
        let choice = choose(&alice, block(), &[taken(inside, "route of eth1")]).unwrap();
        assert_eq!(choice.moved.as_deref(), Some("route of eth1"));
        assert_eq!(u32::from(choice.subnet.network()), u32::from(usual.network()) + 256);
        let whole = choose(&alice, block(), &[taken("10.0.0.0/8".parse().unwrap(), "route of vpn")]);
        let message = whole.unwrap_err().to_string();
        assert!(message.contains("route of vpn") && message.contains("--user-cidr"), "{message}");
    }

    #[test]
    fn the_halves_are_dockers_and_ours() {
        let subnet: Ipv4Net = "10.208.7.0/24".parse().unwrap();
        assert_eq!(gateway(subnet).to_string(), "10.208.7.1");
        assert_eq!(dockers_half(subnet).to_string(), "10.208.7.0/25");
        assert_eq!(own_half(subnet).to_string(), "10.208.7.128/25");
    }

    proptest! {
        #[test]
        fn a_choice_is_in_the_block_and_free(user in "[A-Za-z0-9_-]{1,63}", places in vec((0_u32..16, 20_u8..=32), 0..20)) {
            let block: Ipv4Net = "10.208.0.0/20".parse().unwrap();
            let user: UserName = user.parse().unwrap();
            let taken: Vec<_> = places
                .into_iter()
                .map(|(place, length)| taken(Ipv4Net::new_assert(nth(block, place).network(), length).trunc(), "x"))
                .collect();
            let is_free = |subnet| !taken.iter().any(|taken| overlap(taken.block, subnet));
            match choose(&user, block, &taken) {
                Ok(choice) => {
                    prop_assert!(block.contains(&choice.subnet) && is_free(choice.subnet));
                    prop_assert_eq!(choice.moved.is_none(), choice.subnet == usual(&user, block));
                }
                Err(_) => prop_assert!((0..16).all(|place| !is_free(nth(block, place)))),
            }
        }
    }
}
