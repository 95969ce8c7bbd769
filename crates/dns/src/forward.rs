//! Questions for the rest of the world: asked of the host's resolvers, one question at a time for all who ask the same.

mod exchange;
mod race;
mod resolv_conf;
mod upstreams;

pub(crate) use resolv_conf::watch_resolv_conf;
pub(crate) use upstreams::{Upstream, Upstreams};

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::{
    cache::{Cache, Key},
    wire::{Answer, Request},
};

/// Told the answer, or that there is none.
pub(crate) type Told = Box<dyn FnOnce(Option<&Arc<Answer>>) + Send>;

/// Asks the resolvers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) cache: Arc<Cache>,
    open: Arc<Mutex<Open>>,
    /// What goes on beside the servers.
    tasks: TaskTracker,
    runtime: Handle,
}

/// The open questions, and who waits for each.
#[derive(Default)]
struct Open(HashMap<Key, Vec<Told>>);

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Forwarder {
    /// On this runtime.
    pub(crate) fn new(upstreams: Arc<Upstreams>, cache: Arc<Cache>, runtime: Handle) -> Self {
        Self { upstreams, cache, open: Arc::default(), tasks: TaskTracker::new(), runtime }
    }

    /// Asks these from now on; what others have said is forgotten. Says whether we are among them, who are left out.
    pub(crate) fn replace_upstreams(&self, addresses: &[SocketAddr]) -> bool {
        let former = self.upstreams.list();
        let has_us = self.upstreams.replace(addresses);
        let address = |upstream: &Arc<Upstream>| upstream.address;
        if former.iter().map(address).ne(self.upstreams.list().iter().map(address)) {
            self.cache.clear();
        }
        has_us
    }

    /// Asks, and tells `told`, from whatever thread that is. Somebody who asks what is being asked waits for that: so a question
    /// that comes back to us, however far round, goes no further. How many may wait is the caller's to bound.
    pub(crate) fn ask(&self, request: &Request, told: Told) {
        let key = Key::new(request);
        let mut open = lock(&self.open);
        if let Some(waiting) = open.0.get_mut(&key) {
            return waiting.push(told);
        }
        open.0.insert(key.clone(), vec![told]);
        drop(open);
        let question = Request { asked: request.name, ..request.clone() };
        let (upstreams, cache, open) = (self.upstreams.clone(), self.cache.clone(), self.open.clone());
        self.spawn(async move {
            let asked = upstreams.list();
            let answer = race::race(&upstreams, &question).await.map(Arc::new);
            // Those who said it may have been replaced meanwhile, by this thread.
            let still_asked = Arc::ptr_eq(&asked, &upstreams.list());
            if let Some(answer) = answer.as_ref().filter(|_| still_asked) {
                cache.insert(key.clone(), answer.clone(), Instant::now());
            }
            let waiting = lock(&open).0.remove(&key);
            waiting.into_iter().flatten().for_each(|told| told(answer.as_ref()));
        });
    }

    /// Runs what a question waits for, beside the servers.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Ends when no question waits. None may come any more.
    pub(crate) async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    // Nothing panics between two steps that belong together.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
