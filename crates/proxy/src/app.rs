//! The wiring: starts everything, waits, drains.

use std::{future::pending, sync::Arc, time::Instant};

use anyhow::Context as _;
use futures::future::join_all;
use steppe_api::{serve::serve, sync::SyncServer, uds, v1::proxy_server::ProxyServer};
use steppe_daemon::{Process, shutdown_signal};
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use crate::{
    ProxyError,
    agent::{ProxyAgent, SharedTable},
    balance::SWEEP_INTERVAL,
    config::Config,
    grpc::ProxyService,
    limits::{Descriptors, raise_descriptor_limit},
    watch::Ends,
    worker::{Command, Shared, Workers},
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
    });
    let path = config.run_dir.socket(Process::Proxy);
    // Before anything else: who finds the socket taken has nothing to start.
    let socket = uds::bind(&path)?;
    let (workers, mut deaths) = Workers::start(config.workers(), &shared)?;
    let table = SharedTable::default();
    let agent = ProxyAgent::new(table.clone(), workers.clone(), shared.clone());
    let service = ProxyServer::new(ProxyService {
        sync: SyncServer::new(agent, config.control_uid),
        table: table.clone(),
        workers: workers.clone(),
        shared: shared.clone(),
        started,
    });
    info!(
        version = env!("CARGO_PKG_VERSION"), socket = %path.display(), control_uid = config.control_uid,
        workers = workers.count(), connect_timeout = ?config.connect_timeout, drain_timeout = ?config.drain_timeout,
        descriptors = shared.descriptors.limit(), "serving"
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
                drain(&config, &table, &workers, &mut deaths).await
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

/// Closes the listeners and waits for the connections; those that are left at the end are reset, for a stream that
/// is cut short must not look complete.
async fn drain(
    config: &Config,
    table: &SharedTable,
    workers: &Workers,
    deaths: &mut UnboundedReceiver<ProxyError>,
) -> Result<(), ProxyError> {
    table.lock().stopping = true;
    info!(timeout = ?config.drain_timeout, "told to stop: listeners are closed, open connections go on");
    // Before the listeners close: whoever sees them closed may say it again.
    let again = shutdown_signal();
    let hurry = async {
        match again {
            Ok(again) => again.await,
            Err(_) => pending().await,
        }
    };
    let drained = join_all(workers.ask(Command::Drain));
    tokio::select! {
        drained = timeout(config.drain_timeout, drained) => {
            if drained.is_ok() {
                info!("drained");
                return Ok(());
            }
            warn!("the time to drain is over: resetting the connections that are left");
        }
        () = hurry => warn!("told again to stop: resetting the connections that are left"),
        death = deaths.recv() => return Err(died(death)),
    }
    (0..workers.count()).for_each(|worker| workers.tell(worker, Command::CutAll));
    workers.settle().await;
    Ok(())
}

fn died(death: Option<ProxyError>) -> ProxyError {
    death.unwrap_or(ProxyError::WorkerDied { reason: "without a word".into() })
}
