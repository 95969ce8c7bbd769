//! The wiring: sources and agents around the core, and the gRPC service that answers questions about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use futures::future::BoxFuture;
use steppe_api::{
    serve::{Also, serve_both},
    uds,
    v1::{control_server::ControlServer, networks_server::NetworksServer},
};
use steppe_daemon::{Process, shutdown_signal};
use steppe_model::{ServiceName, UserName};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::info;

use crate::{
    agent::AgentName,
    bridge_ports,
    config::{Config, Switch},
    core::{Core, Wishes},
    doors::{self, DoorsConfig, Guard},
    networks::{self, NetworksConfig, NetworksService, Order},
    observe::{Attach, Observation, SourceName},
    plan::{Allocator, Options, Planner, PortChange},
    push::{
        Push,
        session::{LinkEvent, Peer, keep_connected},
    },
    resolv_conf::{self, Resolve},
    service::{Ask, ControlService},
    source_health::SourcesBoard,
    sources::{
        ConsulConfig, ConsulSource, DockerSource, NomadConfig, NomadInputs, NomadSource, Reread, Source,
    },
};

/// How long control goes on when it is told to stop. Whoever replaces everything at once tells the proxy the same at the same time, and
/// that needs somebody who leads its connections elsewhere; it takes some milliseconds.
const LAST_ORDERS: Duration = Duration::from_millis(500);
/// Events that may wait for the core; past that, who tells them waits.
const EVENTS: usize = 1024;
/// Events taken in before the next plan, at the most: a flood must not keep what is known from being pushed.
const ROUND: usize = 4096;
/// How often waiting work is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// Runs control until it is told to stop.
///
/// # Errors
/// When its socket can't be bound or fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let listener = uds::bind(&config.flags.run_dir.socket(Process::Control))?;
    let shutdown = shutdown_signal().context("signal handlers")?;
    let mut tasks = JoinSet::new();
    let (orders, ordered) = mpsc::channel(64);
    let (inputs, outputs) = connect_everything(&config, ordered, &mut tasks);
    let (asks, asked) = mpsc::channel(64);
    let core = new_core(&config);
    tasks.spawn(drive(core, inputs, outputs, asked));
    let networks = Also::new(NetworksServer::new(NetworksService::new(orders)));
    info!("ready");
    tokio::select! {
        served = serve_both(listener, ControlServer::new(ControlService::new(asks)), Some(networks), pending()) => {
            served.context("the socket failed")
        }
        () = stopped(shutdown) => Ok(()),
        // They run for ever. Without one of them control would only seem to work.
        ended = tasks.join_next() => Err(anyhow!("a task of control ended: {ended:?}")),
    }
}

async fn stopped(shutdown: impl Future<Output = ()>) {
    shutdown.await;
    info!("told to stop: what is in force stays");
    sleep(LAST_ORDERS).await;
}

fn new_core(config: &Config) -> Core {
    let flags = &config.flags;
    let allocator = Allocator::new(flags.service_cidr, flags.listener_address, flags.listener_ports.clone());
    let on = [
        config.docker.as_ref().map(|_| SourceName::Docker),
        config.consul.as_ref().map(|_| SourceName::Consul),
        config.nomad.as_ref().map(|_| SourceName::Nomad),
    ];
    let sources = SourcesBoard::new(on.into_iter().flatten());
    let now = Instant::now();
    let push = Push::new(flags.takeover == Switch::On, now);
    let options = Options {
        guard_all: flags.doors.guard == Guard::All,
        user_cidr: flags.networks.user_cidr,
        user_from: flags.user_from,
    };
    Core::new(Planner::new(config.node.clone(), allocator, options), push, sources, now)
}

/// Where events come from.
struct Inputs {
    observations: mpsc::Receiver<Observation>,
    ports: mpsc::Receiver<PortChange>,
    links: mpsc::Receiver<(AgentName, LinkEvent)>,
}

/// Where wishes go.
struct Outputs {
    ports_known: Arc<AtomicU64>,
    reread: mpsc::Sender<Reread>,
    reread_alloc: mpsc::Sender<Arc<str>>,
    wanted: watch::Sender<BTreeSet<ServiceName>>,
    wanted_by_user: watch::Sender<BTreeMap<ServiceName, BTreeSet<UserName>>>,
    wanted_allocs: watch::Sender<BTreeSet<Arc<str>>>,
    users: watch::Sender<BTreeSet<UserName>>,
    services_of: watch::Sender<BTreeSet<UserName>>,
    attach: mpsc::UnboundedSender<Attach>,
    resolve: mpsc::UnboundedSender<Resolve>,
}

fn connect_everything(
    config: &Config,
    ordered: mpsc::Receiver<Order>,
    tasks: &mut JoinSet<()>,
) -> (Inputs, Outputs) {
    let (observe, observations) = mpsc::channel(EVENTS);
    let (change_port, ports) = mpsc::channel(EVENTS);
    let (tell_link, links) = mpsc::channel(EVENTS);
    let (reread, rereads) = mpsc::channel(EVENTS);
    let (reread_alloc, reread_allocs) = mpsc::channel(EVENTS);
    let wanted = watch::Sender::new(BTreeSet::new());
    let wanted_by_user = watch::Sender::new(BTreeMap::new());
    let wanted_allocs = watch::Sender::new(BTreeSet::new());
    let users = watch::Sender::new(BTreeSet::new());
    let services_of = watch::Sender::new(BTreeSet::new());
    // Unbounded, for who takes these has facts for the core, which must not wait for them; there is one for each container.
    let (attach, attaches) = mpsc::unbounded_channel();
    let (resolve, resolves) = mpsc::unbounded_channel();
    let ports_known = Arc::new(AtomicU64::new(0));
    if let Some(docker) = config.docker.clone() {
        let networks = NetworksConfig { docker: docker.clone(), flags: config.flags.networks.clone() };
        tasks.spawn(networks::run(networks, users.subscribe(), ordered, attaches, observe.clone()));
        let source = DockerSource::new(docker, ports_known.clone(), rereads);
        tasks.spawn(source.run(observe.clone()));
    }
    if let Some(docker) = config.docker.clone() {
        let flags = config.flags.resolv_conf.clone();
        tasks.spawn(resolv_conf::follow(flags, docker, resolves, observe.clone()));
    }
    let places =
        [config.consul.as_ref().map(ConsulConfig::place), config.nomad.as_ref().map(NomadConfig::place)];
    let doors = DoorsConfig {
        flags: config.flags.doors.clone(),
        proxy_uid: config.flags.proxy_uid,
        sources: places.into_iter().flatten().collect(),
    };
    tasks.spawn(doors::follow(doors, observe.clone()));
    if let Some(consul) = config.consul.clone() {
        tasks.spawn(
            ConsulSource::new(consul, wanted.subscribe(), config.flags.consul_connections)
                .run(observe.clone()),
        );
    }
    if let Some(nomad) = config.nomad.clone() {
        let inputs = NomadInputs {
            wanted: wanted_by_user.subscribe(),
            services_of: services_of.subscribe(),
            wanted_allocs: wanted_allocs.subscribe(),
            ports_known: ports_known.clone(),
            reread: reread_allocs,
        };
        tasks.spawn(NomadSource::new(nomad, inputs).run(observe));
    }
    for agent in AgentName::ALL {
        let peer = peer(config, agent);
        if agent == AgentName::NetfilterAgent {
            tasks.spawn(bridge_ports::follow(peer.clone(), change_port.clone()));
        }
        tasks.spawn(keep_connected(peer, tell_link.clone()));
    }
    (
        Inputs { observations, ports, links },
        Outputs {
            ports_known,
            reread,
            reread_alloc,
            wanted,
            wanted_by_user,
            wanted_allocs,
            users,
            services_of,
            attach,
            resolve,
        },
    )
}

fn peer(config: &Config, agent: AgentName) -> Peer {
    let uid = match agent {
        AgentName::Proxy => config.flags.proxy_uid,
        AgentName::NetfilterAgent => config.flags.netfilter_agent_uid,
        AgentName::Dns | AgentName::DnsA | AgentName::DnsB => config.flags.dns_uid,
    };
    Peer { agent, socket: config.flags.run_dir.socket(agent.process()), uid }
}

enum Event {
    Observed(Observation),
    Port(PortChange),
    Link(AgentName, LinkEvent),
    Ask(Ask),
    Tick,
}

/// Feeds the core for as long as anything can still happen.
fn drive(
    mut core: Core,
    mut inputs: Inputs,
    outputs: Outputs,
    mut asked: mpsc::Receiver<Ask>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut tick = interval(TICK);
        let mut is_open = false;
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                Some(observation) = inputs.observations.recv() => Event::Observed(observation),
                Some(change) = inputs.ports.recv() => Event::Port(change),
                Some((agent, event)) = inputs.links.recv() => Event::Link(agent, event),
                Some(ask) = asked.recv() => Event::Ask(ask),
                _ = tick.tick() => Event::Tick,
            };
            take(&mut core, event, &outputs);
            for _ in 0..ROUND {
                let Some(event) = next_waiting(&mut inputs) else { break };
                take(&mut core, event, &outputs);
            }
            let wishes = core.settle(Instant::now());
            grant(wishes, &outputs);
            if core.push.is_open() && !is_open {
                is_open = true;
                // Nobody resolves where Docker is no source.
                let _ = outputs.resolve.send(Resolve::AllTold);
            }
        }
    })
}

fn next_waiting(inputs: &mut Inputs) -> Option<Event> {
    // Ports first: what Docker says of a container is worth more when its port is known.
    if let Ok(change) = inputs.ports.try_recv() {
        return Some(Event::Port(change));
    }
    if let Ok((agent, event)) = inputs.links.try_recv() {
        return Some(Event::Link(agent, event));
    }
    inputs.observations.try_recv().ok().map(Event::Observed)
}

fn take(core: &mut Core, event: Event, outputs: &Outputs) {
    let now = Instant::now();
    match event {
        Event::Observed(observation) => core.observed(observation, now),
        Event::Port(change) => {
            let known = core.port_changed(change);
            outputs.ports_known.store(known, Ordering::SeqCst);
        }
        Event::Link(agent, event) => core.link_changed(agent, event, now),
        Event::Ask(ask) => ask(core, now),
        Event::Tick => {}
    }
}

fn grant(wishes: Wishes, outputs: &Outputs) {
    if let Some(wanted) = wishes.wanted {
        let names = wanted.keys().cloned().collect();
        outputs.wanted.send_if_modified(|before| {
            let is_other = *before != names;
            *before = names;
            is_other
        });
        outputs.wanted_by_user.send_replace(wanted);
    }
    if let Some(wanted) = wishes.wanted_allocs {
        outputs.wanted_allocs.send_replace(wanted);
    }
    if let Some(users) = wishes.users {
        outputs.users.send_replace(users);
    }
    if let Some(users) = wishes.services_of {
        outputs.services_of.send_replace(users);
    }
    for attach in wishes.attach {
        // Nobody attaches where Docker is no source.
        let _ = outputs.attach.send(attach);
    }
    for (container, on) in wishes.resolve {
        // The same.
        let _ = outputs.resolve.send(Resolve::Container(container, on));
    }
    for alloc in wishes.reread_allocs {
        // Should so many wait, they come again with the next change.
        let _ = outputs.reread_alloc.try_send(alloc);
    }
    for container in wishes.reread {
        // Without Docker as a source there are no containers to ask about.
        let _ = outputs.reread.try_send(Reread::Container(container));
    }
}
