//! Leads workloads to dns: writes the resolv.conf that Docker wrote.
//!
//! Docker (20.10) writes it on the host once, some milliseconds before it tells of the container's network, and where the container has
//! Docker's own resolver once more, some 160 ms later; the process starts another 50 ms after that. It writes it again at each
//! start, and when the container comes to a network. Each time we write after it, in place, as the file is mounted into the container.
//! What Docker had written stays in it as a comment, so there is nothing to remember.

mod book;
mod container;
mod flags;
mod judge;
mod patience;
mod watch;

use std::{
    collections::VecDeque,
    future::pending,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use tracing::{error, info};

pub use flags::ResolvConfFlags;

use self::book::Book;
use crate::{
    config::Switch,
    observe::Observation,
    sources::{DockerConfig, SourceError, answer, connect},
};

/// How often all are looked at without a reason: a directory may have been mounted, or given back, meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How soon Docker is asked again where its directory is.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is wished of a container's resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolve {
    /// Whether the container with this id is to be led to dns.
    Container(Arc<str>, bool),
    /// All that are to be led there have been told.
    AllTold,
}

/// Writes what is wished for, and tells what became of it, until nobody wishes or listens any more.
pub async fn follow(
    flags: ResolvConfFlags,
    docker: DockerConfig,
    mut wishes: mpsc::UnboundedReceiver<Resolve>,
    sink: mpsc::Sender<Observation>,
) {
    let off = flags.resolv_conf == Switch::Off;
    // Whoever wishes must not have to wait.
    let mut early = VecDeque::new();
    let dir = containers_dir(flags.containers_dir, &docker);
    tokio::pin!(dir);
    let dir = loop {
        tokio::select! {
            biased;
            Some(wish) = wishes.recv() => early.push_back(wish),
            dir = &mut dir => break dir,
        }
    };
    let mut book = match Book::new(dir, flags.dns_address) {
        Ok(book) => book,
        Err(error) => {
            error!(%error, "inotify can't be used (sysctl fs.inotify.max_user_instances): no resolv.conf is written");
            return pending().await;
        }
    };
    let take = |book: &mut Book, wish: Resolve| match wish {
        // What an earlier control wrote is put back.
        Resolve::Container(id, on) => book.wish(&id, on && !off, Instant::now()),
        Resolve::AllTold => book.put_back_all_others(),
    };
    for wish in early {
        take(&mut book, wish);
    }
    let mut again = interval(LOOK_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = book.due();
        // Not in this order: a container that writes without end must not keep wishes waiting.
        tokio::select! {
            changes = book.changes() => book.changed(changes, Instant::now()),
            Some(wish) = wishes.recv() => take(&mut book, wish),
            // Who listens here may be waiting for us to take a wish.
            permit = sink.reserve(), if !book.news.is_empty() => match (permit, book.news.pop_front()) {
                (Ok(permit), Some(news)) => permit.send(news),
                _ => return,
            },
            () = due_at(due) => book.look_at_due(Instant::now()),
            _ = again.tick() => book.look_at_all(Instant::now()),
        }
    }
}

async fn due_at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// Where Docker keeps its containers.
async fn containers_dir(given: Option<PathBuf>, docker: &DockerConfig) -> PathBuf {
    if let Some(dir) = given {
        return dir;
    }
    loop {
        match root_dir(docker).await {
            Ok(Some(dir)) => {
                let dir = dir.join("containers");
                info!(dir = %dir.display(), "Docker's directory of containers");
                return dir;
            }
            // The source tells what is wrong with Docker.
            Ok(None) | Err(_) => sleep(ASK_AGAIN).await,
        }
    }
}

async fn root_dir(config: &DockerConfig) -> Result<Option<PathBuf>, SourceError> {
    let docker = connect(config).await?;
    let info = answer(docker.info()).await?;
    Ok(info.docker_root_dir.filter(|dir| dir.starts_with('/')).map(PathBuf::from))
}
