//! What to make and what to remove now. Pure: the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use steppe_model::UserName;

use super::{
    name,
    subnet::{self, Choice, Taken},
    world::{Own, World},
};
use crate::observe::Network;

/// Networks that there may be. Each is a bridge and some rules of Docker's; nobody has so many users on one host.
const MOST: usize = 1024;

/// Who needs a network.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Users whose networks must be there.
    pub(super) users: BTreeSet<UserName>,
    /// Users for whom an operator asked.
    pub(super) ensured: BTreeSet<UserName>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a network.
    Create {
        user: UserName,
        choice: Choice,
        /// An operator asked for it.
        kept: bool,
    },
    /// Remove the network with this id.
    Remove { user: UserName, id: Arc<str> },
}

impl Step {
    pub(super) fn user(&self) -> &UserName {
        match self {
            Self::Create { user, .. } | Self::Remove { user, .. } => user,
        }
    }
}

/// What is to be said and done.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) steps: Vec<Step>,
    /// Why a user who needs a network can have none.
    pub(super) problems: BTreeMap<UserName, Arc<str>>,
}

/// Knows for how long networks have been of no use.
#[derive(Debug)]
pub(super) struct Judge {
    block: Ipv4Net,
    idle: Duration,
    /// Since when a network, by its id, is neither needed nor used.
    idle_since: BTreeMap<Arc<str>, Instant>,
}

impl Judge {
    /// Subnets are from `block`; what is of no use for `idle` is removed.
    pub(super) fn new(block: Ipv4Net, idle: Duration) -> Self {
        Self { block, idle, idle_since: BTreeMap::new() }
    }

    /// Something was attached to a network, or taken off it.
    pub(super) fn used(&mut self, id: &str) {
        self.idle_since.remove(id);
    }

    /// What is to be done in this world.
    pub(super) fn judge(&mut self, world: &World, wanted: &Wanted, now: Instant) -> Judgement {
        let mut judgement = Judgement::default();
        let mut idle = BTreeMap::new();
        for (user, own) in &world.own {
            let ensured = wanted.ensured.contains(user);
            let is_used = world.attached_to(user).next().is_some();
            let remove = || Step::Remove { user: user.clone(), id: own.id.clone() };
            if ensured && !own.kept && !is_used {
                // Labels can't be changed: it is made anew, and then outlives control's own memory.
                judgement.steps.push(remove());
            }
            if is_used || ensured || own.kept || wanted.users.contains(user) {
                continue;
            }
            let since = *self.idle_since.get(&own.id).unwrap_or(&now);
            idle.insert(own.id.clone(), since);
            if now.saturating_duration_since(since) >= self.idle {
                judgement.steps.push(remove());
            }
        }
        self.idle_since = idle;
        self.create(world, wanted, &mut judgement);
        judgement
    }

    fn create(&self, world: &World, wanted: &Wanted, judgement: &mut Judgement) {
        // What is chosen now is taken for the next.
        let mut taken = world.taken.clone();
        let mut count = world.own.len();
        let missing = wanted.users.union(&wanted.ensured).filter(|user| !world.own.contains_key(*user));
        for user in missing {
            match self.choose(user, world, &taken, count) {
                Ok(choice) => {
                    count += 1;
                    let by = format!("Docker's network {}", name::network(user)).into();
                    taken.push(Taken { block: choice.subnet, by });
                    let kept = wanted.ensured.contains(user);
                    judgement.steps.push(Step::Create { user: user.clone(), choice, kept });
                }
                Err(why) => drop(judgement.problems.insert(user.clone(), why.into())),
            }
        }
    }

    fn choose(
        &self,
        user: &UserName,
        world: &World,
        taken: &[Taken],
        count: usize,
    ) -> Result<Choice, String> {
        let (network, bridge) = (name::network(user), name::bridge(user));
        if world.others.contains(&network) {
            return Err(format!(
                "there is a Docker network {network} that Steppe did not make: docker network rm {network}"
            ));
        }
        if world.interfaces.contains(&*bridge) {
            return Err(format!(
                "there is an interface {bridge} that is no network of Steppe's: ip link del {bridge}"
            ));
        }
        if count >= MOST {
            return Err(format!("there are {MOST} networks already, and no more are made"));
        }
        subnet::choose(user, self.block, taken).map_err(|error| error.to_string())
    }

    /// A network as it is told.
    pub(super) fn fact(&self, user: &UserName, own: &Own) -> Network {
        let moved = if own.subnet == subnet::usual(user, self.block) {
            None
        } else {
            let why = own.moved.clone();
            Some(why.unwrap_or_else(|| {
                format!("it was made with another --user-cidr than {}", self.block).into()
            }))
        };
        Network {
            id: own.id.clone(),
            user: user.clone(),
            bridge: name::bridge(user),
            subnet: own.subnet,
            gateway: own.gateway,
            moved,
        }
    }
}

#[cfg(test)]
mod tests;
