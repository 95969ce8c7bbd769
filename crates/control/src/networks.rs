//! Users' networks: a Docker bridge for each user who needs one, there before the first workload and gone when nobody has needed it
//! for a while. What Steppe did not make is never touched, and nothing goes that a container names, running or not.
//!
//! ```text
//! users who need one ─▶ judge (pure) ─▶ Docker ─▶ look again ─▶ Observation::Networks
//! ```
//!
//! Nothing is remembered that Docker can't tell again: a network's labels say whose it is, what was in the way of its usual
//! addresses, and whether an operator asked for it.

mod attach;
mod daemon;
mod flags;
mod host;
mod judge;
mod name;
mod service;
mod subnet;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bollard::{errors::Error as DockerError, models::EventMessage};
use futures::StreamExt as _;
use steppe_model::UserName;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

pub use flags::NetworkFlags;
pub use service::NetworksService;

use self::{
    daemon::{Daemon, Refused, told_by},
    judge::{Judge, Step, Wanted},
    world::World,
};
use crate::{
    observe::{Attach, Network, Observation},
    sources::{Backoff, DockerConfig, SourceError},
};

/// How often everything is looked at without a reason: idle networks, and those that could not be made.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Docker's daemon restarts within a second; one that stays away is asked every few seconds.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Events that are there already are taken in together.
const BATCH: usize = 256;
/// Looks in a row: one more than it takes to make a network anew and see it.
const ROUNDS: usize = 4;

/// What the networks follow from.
#[derive(Debug, Clone)]
pub struct NetworksConfig {
    /// The daemon.
    pub docker: DockerConfig,
    /// The flags.
    pub flags: NetworkFlags,
}

/// A user's network as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The user.
    pub user: UserName,
    /// The network; `None` while there is none.
    pub network: Option<Network>,
    /// The containers that name it, running or not.
    pub attached: BTreeSet<Arc<str>>,
    /// An operator asked for it.
    pub ensured: bool,
    /// Somebody needs it: a user whom a source knows, or one of `--users`.
    pub needed: bool,
    /// Why the user can have none; `None` when there is one.
    pub problem: Option<Arc<str>>,
}

/// What an operator wants.
#[derive(Debug)]
pub enum Order {
    /// All networks.
    List(oneshot::Sender<Result<Vec<Listed>, Declined>>),
    /// A user's network is there from now on.
    Ensure(UserName, oneshot::Sender<Result<Listed, Declined>>),
    /// A user's network is gone.
    Remove(UserName, oneshot::Sender<Result<(), Declined>>),
}

/// Why an order was not carried out, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// Docker does not answer.
    #[error("{0}")]
    Away(String),
    /// There is no such network.
    #[error("{0} has no network on this host")]
    Missing(UserName),
    /// It can't be, as things are.
    #[error("{0}")]
    Now(String),
}

/// Sees to the networks, and moves the containers that are asked for. Runs until nobody listens any more.
pub async fn run(
    config: NetworksConfig,
    users: watch::Receiver<BTreeSet<UserName>>,
    orders: mpsc::Receiver<Order>,
    asked: mpsc::UnboundedReceiver<Attach>,
    sink: mpsc::Sender<Observation>,
) {
    let there = watch::Sender::new(BTreeMap::new());
    let attaching = attach::run(config.docker.clone(), asked, there.subscribe(), sink.clone());
    tokio::join!(keep(config, users, orders, there, sink), attaching);
}

async fn keep(
    config: NetworksConfig,
    users: watch::Receiver<BTreeSet<UserName>>,
    orders: mpsc::Receiver<Order>,
    there: watch::Sender<BTreeMap<UserName, Network>>,
    sink: mpsc::Sender<Observation>,
) {
    let judge = Judge::new(config.flags.user_cidr, config.flags.network_idle);
    let wanted = Wanted::default();
    let mut keeper =
        Keeper { config, users, orders, there, sink, judge, wanted, told: None, problems: BTreeMap::new() };
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let mut live = false;
        let error = match keeper.follow(&mut live).await {
            Err(End::Unheard) => return,
            Err(End::Failed(error)) => error.to_string(),
        };
        if live {
            backoff.reset();
        }
        let again = tokio::time::Instant::now() + backoff.next(fastrand::f64());
        if keeper.wait(again, &error).await.is_err() {
            return;
        }
    }
}

/// Why following Docker ended.
enum End {
    /// Nobody listens any more.
    Unheard,
    /// Docker failed. The source says so, too.
    Failed(SourceError),
}

impl<E: Into<SourceError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What came of a look.
struct Looked {
    world: World,
    problems: BTreeMap<UserName, Arc<str>>,
}

struct Keeper {
    config: NetworksConfig,
    users: watch::Receiver<BTreeSet<UserName>>,
    orders: mpsc::Receiver<Order>,
    there: watch::Sender<BTreeMap<UserName, Network>>,
    sink: mpsc::Sender<Observation>,
    judge: Judge,
    wanted: Wanted,
    told: Option<Vec<Network>>,
    problems: BTreeMap<UserName, Arc<str>>,
}

impl Keeper {
    async fn follow(&mut self, live: &mut bool) -> Result<Infallible, End> {
        let daemon = Daemon::connect(&self.config.docker).await?;
        let mut events = daemon.events().ready_chunks(BATCH);
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                batch = events.next() => {
                    let batch = batch.ok_or(SourceError::StreamEnded)?;
                    if self.heard(batch)? {
                        self.see_to_it(&daemon, BTreeSet::new()).await?;
                    }
                }
                Ok(()) = self.users.changed() => drop(self.see_to_it(&daemon, BTreeSet::new()).await?),
                Some(order) = self.orders.recv() => self.carry_out(&daemon, order).await?,
                _ = tick.tick() => {
                    self.see_to_it(&daemon, BTreeSet::new()).await?;
                    *live = true;
                }
                () = self.sink.closed() => return Err(End::Unheard),
            }
        }
    }

    /// Answers orders until Docker is tried again.
    async fn wait(&mut self, again: tokio::time::Instant, error: &str) -> Result<(), End> {
        loop {
            let declined = || Declined::Away(error.to_owned());
            tokio::select! {
                () = sleep_until(again) => return Ok(()),
                () = self.sink.closed() => return Err(End::Unheard),
                // Whoever asked may have gone.
                Some(order) = self.orders.recv() => match order {
                    Order::List(answer) => drop(answer.send(Err(declined()))),
                    Order::Ensure(_, answer) => drop(answer.send(Err(declined()))),
                    Order::Remove(_, answer) => drop(answer.send(Err(declined()))),
                },
            }
        }
    }

    /// Takes events in; says whether they are a reason to look.
    fn heard(&mut self, batch: Vec<Result<EventMessage, DockerError>>) -> Result<bool, End> {
        let events = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (touched, changed) = told_by(&events);
        for id in touched {
            self.judge.used(id);
        }
        Ok(changed)
    }

    /// Looks, does what is to be done, and tells what there is then. `also` are users who need a network for now.
    async fn see_to_it(&mut self, daemon: &Daemon, also: BTreeSet<UserName>) -> Result<Looked, End> {
        self.wanted.users = self.users.borrow_and_update().clone();
        self.wanted.users.extend(self.config.flags.users.iter().cloned().chain(also));
        let mut failed: BTreeMap<UserName, Arc<str>> = BTreeMap::new();
        let mut removed = BTreeSet::new();
        let mut rounds = 0..ROUNDS;
        loop {
            let world = daemon.look().await?;
            // A container may have been made meanwhile that names what was removed: it has not started, and will.
            let needed = removed.iter().filter(|user| world.attached_to(user).next().is_some());
            self.wanted.users.extend(needed.cloned());
            let mut judgement = self.judge.judge(&world, &self.wanted, Instant::now());
            judgement.steps.retain(|step| !failed.contains_key(step.user()));
            let is_last = judgement.steps.is_empty() || rounds.next().is_none();
            if is_last {
                failed.retain(|user, _| !world.own.contains_key(user));
                judgement.problems.extend(failed);
                self.tell(&world).await?;
                self.complain(&judgement.problems).await?;
                return Ok(Looked { world, problems: judgement.problems });
            }
            for step in judgement.steps {
                match do_it(daemon, &step).await {
                    Ok(()) => {
                        if let Step::Remove { user, .. } = step {
                            removed.insert(user);
                        }
                    }
                    Err(why) => drop(failed.insert(step.user().clone(), why.to_string().into())),
                }
            }
        }
    }

    async fn tell(&mut self, world: &World) -> Result<(), End> {
        let networks: Vec<_> = world.own.iter().map(|(user, own)| self.judge.fact(user, own)).collect();
        if self.told.as_ref() == Some(&networks) {
            return Ok(());
        }
        for network in
            networks.iter().filter(|network| !self.told.iter().flatten().any(|told| told == *network))
        {
            let Network { user, subnet, bridge, moved, .. } = network;
            match moved {
                None => info!(%user, %subnet, %bridge, "network"),
                Some(why) => {
                    warn!(%user, %subnet, %bridge, %why, "network with other addresses than on other hosts")
                }
            }
        }
        let by_user = networks.iter().map(|network| (network.user.clone(), network.clone()));
        self.there.send_replace(by_user.collect());
        self.sink.send(Observation::Networks(networks.clone())).await.map_err(|_| End::Unheard)?;
        self.told = Some(networks);
        Ok(())
    }

    /// Says each problem once.
    async fn complain(&mut self, problems: &BTreeMap<UserName, Arc<str>>) -> Result<(), End> {
        if *problems == self.problems {
            return Ok(());
        }
        for (user, why) in problems.iter().filter(|(user, why)| self.problems.get(*user) != Some(*why)) {
            warn!(%user, %why, "no network");
        }
        self.problems.clone_from(problems);
        self.sink.send(Observation::NoNetwork(problems.clone())).await.map_err(|_| End::Unheard)
    }

    async fn carry_out(&mut self, daemon: &Daemon, order: Order) -> Result<(), End> {
        // Whoever asked may have gone.
        match order {
            Order::List(answer) => {
                let looked = self.see_to_it(daemon, BTreeSet::new()).await?;
                drop(answer.send(Ok(self.list(&looked))));
            }
            Order::Ensure(user, answer) => {
                self.wanted.ensured.insert(user.clone());
                let looked = self.see_to_it(daemon, BTreeSet::new()).await?;
                let listed = self.list(&looked).into_iter().find(|listed| listed.user == user);
                drop(answer.send(match listed {
                    Some(Listed { problem: None, .. }) => listed.ok_or(Declined::Missing(user)),
                    _ => {
                        self.wanted.ensured.remove(&user);
                        let why = looked.problems.get(&user).map_or("it is not there", |why| why);
                        Err(Declined::Now(format!("{user} gets no network: {why}")))
                    }
                }));
            }
            Order::Remove(user, answer) => {
                let removed = self.remove(daemon, &user).await?;
                drop(answer.send(removed));
            }
        }
        Ok(())
    }

    async fn remove(&mut self, daemon: &Daemon, user: &UserName) -> Result<Result<(), Declined>, End> {
        let Looked { world, .. } = self.see_to_it(daemon, BTreeSet::new()).await?;
        let Some(own) = world.own.get(user) else {
            let network = name::network(user);
            return Ok(Err(match world.others.contains(&network) {
                true => Declined::Now(format!("Steppe did not make {network}: docker network rm {network}")),
                false => Declined::Missing(user.clone()),
            }));
        };
        let attached: Vec<&str> = world.attached_to(user).map(|name| &**name).collect();
        if !attached.is_empty() {
            let attached = attached.join(", ");
            let what = format!("still on the network of {user}: {attached}: remove these containers first");
            return Ok(Err(Declined::Now(what)));
        }
        if self.wanted.users.contains(user) {
            let why = match self.config.flags.users.contains(user) {
                true => "--users names it",
                false => "a namespace or a workload of this host needs it",
            };
            return Ok(Err(Declined::Now(format!("the network of {user} would come back: {why}"))));
        }
        self.wanted.ensured.remove(user);
        if let Err(why) = daemon.remove(&own.id).await {
            return Ok(Err(Declined::Now(why.to_string())));
        }
        info!(%user, "network removed, as an operator asked");
        self.see_to_it(daemon, BTreeSet::new()).await?;
        Ok(Ok(()))
    }

    /// The networks, and the users who need one and have none.
    fn list(&self, looked: &Looked) -> Vec<Listed> {
        let world = &looked.world;
        let users: BTreeSet<_> = world.own.keys().chain(looked.problems.keys()).collect();
        let listed = users.into_iter().map(|user| {
            let own = world.own.get(user);
            Listed {
                user: user.clone(),
                network: own.map(|own| self.judge.fact(user, own)),
                attached: own.map(|_| world.attached_to(user).cloned().collect()).unwrap_or_default(),
                ensured: own.is_some_and(|own| own.kept) || self.wanted.ensured.contains(user),
                needed: self.wanted.users.contains(user),
                problem: looked.problems.get(user).cloned(),
            }
        });
        listed.collect()
    }
}

async fn do_it(daemon: &Daemon, step: &Step) -> Result<(), Refused> {
    match step {
        Step::Create { user, choice, kept } => daemon.create(user, choice, *kept).await,
        Step::Remove { user, id } => {
            daemon.remove(id).await?;
            info!(%user, "network removed: nobody needs it");
            Ok(())
        }
    }
}
