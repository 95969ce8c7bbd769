//! The wiring: starts everything, waits, drains.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use steppe_api::{serve::serve, sync::SyncServer, uds, v1::proxy_server::ProxyServer};
use steppe_daemon::{Process, shutdown_signal};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};
use tracing::info;

use crate::{
    ProxyError,
    agent::{ProxyAgent, SharedTable},
    balance::SWEEP_INTERVAL,
    config::Config,
    drain::Drain,
    grpc::ProxyService,
    limits::{Descriptors, raise_descriptor_limit},
    watch::Ends,
    worker::{Shared, Workers},
};

/// Serves until SIGTERM or SIGINT, and drains.
///
/// # Errors
/// When something that the proxy needs can't be had at the start, or breaks for good.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let stop = shutdown_signal().context("can't install signal handlers")?;
    let descriptors = Descriptors::new(raise_descriptor_limit())?;
    let shared = Arc::new(Shared {
        descriptors,
        ends: Arc::new(Ends::new()),
        connect_timeout: config.connect_timeout,
        udp_idle_timeout: config.udp_idle_timeout,
    });
    let path = config.run_dir.socket(Process::Proxy);
    // Before anything else: who finds the socket taken has nothing to start.
    let socket = uds::bind(&path)?;
    let (workers, mut deaths) = Workers::start(config.workers(), &shared)?;
    let table = SharedTable::default();
    let agent = ProxyAgent::new(table.clone(), workers.clone(), shared.clone());
    let sync = SyncServer::new(agent, config.control_uid);
    let relief = sync.drain();
    let service = ProxyServer::new(ProxyService {
        sync,
        table: table.clone(),
        workers: workers.clone(),
        shared: shared.clone(),
        started,
    });
    info!(
        version = env!("CARGO_PKG_VERSION"), socket = %path.display(), control_uid = config.control_uid,
        workers = workers.count(), connect_timeout = ?config.connect_timeout, drain_timeout = ?config.drain_timeout,
        udp_idle_timeout = ?config.udp_idle_timeout,        descriptors = shared.descriptors.limit(), "serving"
    );
    let (tell_draining, draining) = oneshot::channel();
    let serving = serve(socket, service, async {
        // Dropped without a word: the whole process ends.
        let _ = draining.await;
    });
    let work = async {
        tokio::select! {
            () = stop => {
                let _ = tell_draining.send(());
                let drain = Drain { table: &table, workers: &workers, timeout: config.drain_timeout };
                tokio::select! {
                    () = drain.run(relief) => Ok(()),
                    death = deaths.recv() => Err(died(death)),
                }
            }
            death = deaths.recv() => Err(died(death)),
            () = sweep(&table) => unreachable!("it sweeps for ever"),
        }
    };
    tokio::select! {
        // The control side is served to the end, so that grants can be revoked from what drains.
        ended = serving => ended.context("the gRPC server broke"),
        ended = work => ended.map_err(Into::into),
    }
}

async fn sweep(table: &SharedTable) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        table.sweep();
    }
}

fn died(death: Option<ProxyError>) -> ProxyError {
    death.unwrap_or(ProxyError::WorkerDied { reason: "without a word".into() })
}
