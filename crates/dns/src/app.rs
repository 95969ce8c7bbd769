//! The wiring: starts everything, waits, drains.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use steppe_api::{serve::serve, sync::SyncServer, uds, v1::dns_server::DnsServer};
use steppe_daemon::shutdown_signal;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    DnsError,
    agent::DnsAgent,
    cache::Cache,
    config::Config,
    desk::Desk,
    forward::{Forwarder, Upstreams, watch_resolv_conf},
    grpc::{DnsService, Shown},
    limits::Limits,
    serve::{Serving, probe},
    zone::Rules,
};

/// Without a word from control it forwards after this, if nobody else answers on the address: a container must not lose the
/// rest of the world because control is away.
const GRACE: Duration = Duration::from_secs(3);
/// How often it is tried to listen where somebody else does.
const RETRY: Duration = Duration::from_millis(200);
/// How long the questions that are open at the end may take: a little more than a forwarded one does, and less than Nomad's
/// five seconds.
const DRAIN: Duration = Duration::from_millis(4_500);

/// Serves until SIGTERM or SIGINT, and drains.
///
/// # Errors
/// When something that dns needs can't be had at the start, or breaks for good.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let stop = shutdown_signal().context("can't install signal handlers")?;
    let path = config.run_dir.socket(config.process());
    // Before anything else: who finds the socket taken has nothing to start.
    let socket = uds::bind(&path)?;
    let address = config.address();
    raise_descriptor_limit();
    // A privilege that is missing shows now, and not when the first name is to be answered.
    probe(address).map_err(|error| DnsError::listen(address, error))?;
    let desk = Arc::new(desk(&config));
    let (tell_settled, settled) = watch::channel(false);
    let shown = Arc::new(Shown::new(started, config.instance_name()));
    let sync = SyncServer::new(DnsAgent::new(desk.clone(), tell_settled), config.control_uid);
    let relief = sync.drain();
    let service = DnsServer::new(DnsService { sync, desk: desk.clone(), shown: shown.clone() });
    info!(
        version = env!("CARGO_PKG_VERSION"), socket = %path.display(), control_uid = config.control_uid, %address,
        instance = config.instance_name(), consul_dns = ?config.consul_dns, service_cidr = %config.service_cidr,
        cache_size = config.cache_size, asker_rate = config.asker_rate, asker_forwards = config.asker_forwards,
        forwards = config.forwards, "serving"
    );
    let (tell_draining, draining) = oneshot::channel();
    let grpc = serve(socket, service, async {
        // Dropped without a word: the whole process ends.
        let _ = draining.await;
    });
    let questions = async {
        let mut stop = std::pin::pin!(stop);
        let listening = listen(&desk, &config, settled);
        let mut serving = tokio::select! {
            () = &mut stop => return Ok(()),
            serving = listening => serving?,
        };
        shown.listening(Some(address));
        info!(%address, "listening");
        tokio::select! {
            reason = serving.died() => return Err(DnsError::ThreadDied { reason }),
            () = &mut stop => {}
        }
        info!("told to stop: answering what has been asked");
        shown.draining();
        let _ = tell_draining.send(());
        // control may want to know; there is nothing that it would have to do first.
        let told = tokio::spawn(relief);
        if timeout(DRAIN, serving.drain(&desk)).await.is_err() {
            warn!("some questions are still open: they are not answered");
        }
        told.abort();
        Ok(())
    };
    tokio::select! {
        ended = grpc => ended.context("the gRPC server broke"),
        ended = questions => ended.map_err(Into::into),
        () = resolvers(&config, &desk.forwarder) => unreachable!("they are watched for ever"),
    }
}

/// A question that is with a resolver has a socket: the soft limit on descriptors is raised to the hard one.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, "can't raise the descriptor limit; the present one stays");
    }
}

fn desk(config: &Config) -> Desk {
    let rules =
        Rules { consul: config.consul_dns, service_cidr: config.service_cidr, address: config.dns_address };
    let upstreams = Arc::new(Upstreams::new(config.address().into()));
    let cache = Arc::new(Cache::new(config.cache_size));
    let forwarder = Forwarder::new(upstreams, cache, Handle::current());
    let limits = Limits::new(config.asker_rate, config.asker_forwards, config.forwards);
    Desk::new(rules, limits, forwarder)
}

async fn resolvers(config: &Config, forwarder: &Forwarder) {
    if config.upstream.is_empty() {
        return watch_resolv_conf(&config.resolv_conf, forwarder).await;
    }
    if forwarder.replace_upstreams(&config.upstream) {
        warn!("--upstream names dns itself, which would ask itself: left out");
    }
    std::future::pending().await
}

/// Listens once it is known what to answer; or when control has been silent for a while and nobody else listens.
async fn listen(
    desk: &Arc<Desk>,
    config: &Config,
    mut settled: watch::Receiver<bool>,
) -> Result<Serving, DnsError> {
    let address = config.address();
    let failed = |error| DnsError::listen(address, error);
    if timeout(GRACE, settled.wait_for(|settled| *settled)).await.is_err() {
        while !*settled.borrow() && probe(address).map_err(failed)? {
            // The sender lives as long as the agent, which outlives this.
            let _ = timeout(RETRY, settled.wait_for(|settled| *settled)).await;
        }
        if !*settled.borrow() {
            warn!("steppe-control has not told what there is: names of Steppe's fail, the rest is forwarded");
        }
    }
    let mut has_complained = false;
    loop {
        match Serving::start(desk, address, config.instance.is_some()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !has_complained {
                    warn!(%address, "somebody else listens there: waiting; two of dns need --instance a and --instance b, and one uid");
                    has_complained = true;
                }
                sleep(RETRY).await;
            }
            started => return started.map_err(failed),
        }
    }
}
