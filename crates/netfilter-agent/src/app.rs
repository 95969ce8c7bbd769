//! Wires the agent: the kernel first, then the socket, so that what a dead port left is gone before anybody asks.

use std::{future::pending, io, sync::mpsc as std_mpsc, thread, time::Instant};

use anyhow::Context as _;
use steppe_api::{serve::serve, uds, v1::netfilter_agent_server::NetfilterAgentServer};
use steppe_daemon::{Failure, Process, shutdown_signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    config::Config,
    docker_user::{self, DockerUser},
    error::Error,
    firewall::{Aside, Firewall, Shared},
    flows,
    grpc::Service,
    host::Host,
    kernel::{self, Kernel},
    links::{Events, Hairpin, Ports, Query},
    netlink::monitor::{Heard, Monitor},
    ruleset::Addresses,
    state::Limits,
};

/// Runs until SIGTERM or SIGINT. Everything stays in force after it.
///
/// # Errors
/// [`Failure`], for a person.
pub(crate) async fn run(config: Config) -> Result<(), Failure> {
    let addresses = config.addresses().map_err(Failure::usage)?;
    let socket = config.run_dir.socket(Process::NetfilterAgent);
    let listener = uds::bind(&socket)?;
    if config.purge {
        let purged = purge(addresses);
        drop(listener);
        std::fs::remove_file(&socket).with_context(|| format!("{}", socket.display()))?;
        return Ok(purged?);
    }
    let shutdown = shutdown_signal()?;
    info!(?config, "starting");
    let (failures, mut failed) = mpsc::channel(1);
    let firewall = start(&config, addresses, failures)?;
    let service = Service::new(firewall, config.control_uid);
    info!(socket = %socket.display(), "ready");
    // Streams have no end of their own: they are dropped, and control comes again.
    tokio::select! {
        served = serve(listener, NetfilterAgentServer::new(service), pending()) => served?,
        () = shutdown => {}
        Some(error) = failed.recv() => return Err(error.into()),
    }
    info!("stopped: what is in force stays");
    std::fs::remove_file(&socket).with_context(|| format!("{}", socket.display()))?;
    Ok(())
}

/// Takes the kernel over and starts the threads that follow it.
fn start(
    config: &Config,
    addresses: Addresses,
    failures: mpsc::Sender<anyhow::Error>,
) -> Result<Shared, Error> {
    let began = Instant::now();
    let mut host = Host::open(addresses).map_err(Error::links("asked for"))?;
    host.ensure()?;
    let (kernel, state, closed) = Kernel::open(addresses, config.table_owner)?;
    let events = Events::open(addresses).map_err(Error::links("watched"))?;
    let mut query = Query::open().map_err(Error::links("asked for"))?;
    let listing = query.list().map_err(Error::links("listed"))?;
    let mut ports = Ports::default();
    ports.relist(listing);

    let (owned, writer) = (kernel.owned(), kernel.writer_port());
    let limits = Limits { services: addresses.services, listener: addresses.listener };
    let (flows, tasks) = std_mpsc::channel();
    let (waker, wake) = std_mpsc::channel();
    let hairpin = Hairpin::open().map_err(Error::links("asked for"))?;
    let aside = Aside { flows, docker_user: waker };
    let firewall = Shared::new(Firewall::new((kernel, state, closed), (host, hairpin), ports, limits, aside));
    let mut rule = DockerUser::open().map_err(Error::netlink("opened"))?;
    {
        let mut firewall = firewall.lock();
        firewall.docker_user = rule.ensure(firewall.state.has_endpoints());
    }
    let elements = firewall.lock().state.elements();
    info!(owned, elements, took = ?began.elapsed(), "the tables are in force");

    let fail = move |what: &'static str, result: io::Result<()>| {
        if let Err(error) = result {
            // The first failure ends the process; nobody waits for a second.
            let _ = failures.try_send(anyhow::Error::new(error).context(what));
        }
    };
    let (mut watcher, cutter, restorer) = (firewall.clone(), firewall.clone(), firewall.clone());
    let isolated = firewall.clone();
    let failing = fail.clone();
    thread::spawn(move || {
        failing("the bridges' ports can't be followed", events.follow(&mut query, &mut watcher))
    });
    let failing = fail.clone();
    thread::spawn(move || failing("connections can't be cut", flows::follow(&tasks, &cutter)));
    thread::spawn(move || docker_user::follow(rule, &wake, &isolated));
    if !owned {
        warn!(
            "nothing keeps others off our tables (Linux 6.9 can, see --table-owner): what they change is put back"
        );
        let monitor = Monitor::open(writer).map_err(Error::netlink("watched"))?;
        thread::spawn(move || fail("nftables can't be followed", restore(monitor, &restorer)));
    }
    Ok(firewall)
}

/// Puts the tables back whenever somebody changes them.
fn restore(mut monitor: Monitor, firewall: &Shared) -> io::Result<()> {
    loop {
        let heard = monitor.next()?;
        let began = Instant::now();
        let mut firewall = firewall.lock();
        let by = match heard {
            Heard::Changed(by) => by,
            Heard::Lost if firewall.kernel.is_intact().map_err(io::Error::other)? => continue,
            Heard::Lost => "somebody".into(),
        };
        firewall.rebuild().map_err(io::Error::other)?;
        warn!(by, took = ?began.elapsed(), "table `steppe` was changed by a stranger and is put back");
    }
}

fn purge(addresses: Addresses) -> Result<(), Error> {
    kernel::purge()?;
    docker_user::remove().map_err(Error::netlink("purged of the rule in DOCKER-USER"))?;
    let mut hairpin = Hairpin::open().map_err(Error::links("asked for"))?;
    hairpin.turn_all_off().map_err(Error::links("taken out of hairpin mode"))?;
    Host::open(addresses).map_err(Error::links("asked for"))?.remove()?;
    info!("removed: tables, rule in DOCKER-USER, hairpin modes, addresses and route");
    Ok(())
}
