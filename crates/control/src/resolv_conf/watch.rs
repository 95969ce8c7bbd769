//! Changes in containers' directories, by inotify(7), read by a thread of its own: safe Rust has no other way to wait for them.

use std::{collections::BTreeSet, io, mem::MaybeUninit, os::fd::OwnedFd, path::Path, sync::Arc, thread};

use rustix::{
    fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::sync::mpsc;
use tracing::error;

/// Files whose change matters: the others are logs, and what Docker writes before it gives it one of these names.
const FILES: [&[u8]; 2] = [b"resolv.conf", b"resolv.conf.hash"];
const FACTS: [&[u8]; 2] = [b"config.v2.json", b"hostconfig.json"];
/// Room for some thirty events of the largest kind.
const BUFFER: usize = 8192;
/// Changes that may wait; past that, the kernel keeps them.
const WAITING: usize = 64;
/// Always there.
const ROOT: &str = "/";

/// A watched directory.
pub(super) type Watched = i32;

/// Something has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    File(Watched),
    Facts(Watched),
    Gone(Watched),
    Overflow,
}

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Directories in which something changed.
    pub(super) changed: BTreeSet<Watched>,
    /// Those in which Docker's own files did.
    pub(super) facts: BTreeSet<Watched>,
    /// Directories that are gone, and are not watched any more.
    pub(super) gone: BTreeSet<Watched>,
    /// More happened than the kernel could remember: anything may have changed.
    pub(super) overflow: bool,
}

/// Some directories.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Arc<OwnedFd>,
    changes: mpsc::Receiver<Change>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let (tell, changes) = mpsc::channel(WAITING);
        let read = inotify.clone();
        thread::Builder::new().name("inotify".to_owned()).spawn(move || follow(&read, &tell))?;
        Ok(Self { inotify, changes })
    }

    /// Watches a directory, from now on.
    pub(super) fn add(&self, dir: &Path) -> io::Result<Watched> {
        // Not MODIFY: logs lie there too.
        let events = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        let only = WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        inotify::add_watch(&self.inotify, dir, events | only).map_err(|error| match error {
            Errno::NOSPC => {
                io::Error::other("no more can be watched: raise sysctl fs.inotify.max_user_watches")
            }
            error => error.into(),
        })
    }

    pub(super) fn remove(&self, dir: Watched) {
        // It may have gone by itself.
        let _ = inotify::remove_watch(&self.inotify, dir);
    }

    /// Waits until something happens; for ever, should the kernel not tell any more.
    pub(super) async fn changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut next = self.changes.recv().await;
        if next.is_none() {
            return std::future::pending().await;
        }
        while let Some(change) = next {
            match change {
                Change::File(dir) => drop(changes.changed.insert(dir)),
                Change::Facts(dir) => {
                    changes.facts.insert(dir);
                    changes.changed.insert(dir);
                }
                Change::Gone(dir) => drop(changes.gone.insert(dir)),
                Change::Overflow => changes.overflow = true,
            }
            next = self.changes.try_recv().ok();
        }
        changes
    }
}

impl Drop for Watch {
    /// Lets the thread see that nobody listens: it waits for an event.
    fn drop(&mut self) {
        self.changes.close();
        if let Ok(root) = self.add(Path::new(ROOT)) {
            self.remove(root);
        }
    }
}

/// Tells changes until nobody listens.
fn follow(inotify: &OwnedFd, tell: &mpsc::Sender<Change>) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(inotify, &mut buffer);
    while !tell.is_closed() {
        let change = match reader.next() {
            Ok(event) => read(&event),
            Err(Errno::INTR) => None,
            Err(error) => {
                error!(%error, "inotify fails: resolv.conf is looked at once a minute only");
                return;
            }
        };
        if change.is_some_and(|change| tell.blocking_send(change).is_err()) {
            return;
        }
    }
}

fn read(event: &Event<'_>) -> Option<Change> {
    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(Change::Overflow);
    }
    if event.events().contains(ReadFlags::IGNORED) {
        return Some(Change::Gone(event.wd()));
    }
    let name = event.file_name()?.to_bytes();
    match (FILES.contains(&name), FACTS.contains(&name)) {
        (true, _) => Some(Change::File(event.wd())),
        (_, true) => Some(Change::Facts(event.wd())),
        _ => None,
    }
}
