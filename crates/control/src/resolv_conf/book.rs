//! Whose resolv.conf shall lead to dns, and the state that each is in.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

use steppe_daemon::ResolvConf;
use steppe_model::resolv_conf as text;
use tracing::{debug, warn};

use super::{
    container::{Facts, Mode},
    judge::{Verdict, judge},
    patience::{Looks, Patience},
    watch::{Changes, Watch, Watched},
};
use crate::observe::Observation;

/// A container's full id.
type Id = Arc<str>;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Book {
    dir: PathBuf,
    server: Ipv4Addr,
    watch: Watch,
    /// Who shall be led to dns.
    wished: BTreeMap<Id, Wished>,
    /// By whose directory they lie in.
    files: BTreeMap<Id, Kept>,
    watched: BTreeMap<Watched, Id>,
    /// What is to be told.
    pub(super) news: VecDeque<Observation>,
}

#[derive(Debug)]
struct Wished {
    /// In whose directory its resolv.conf lies.
    of: Id,
    mounts_own: bool,
    told: Option<Result<(), Arc<str>>>,
}

#[derive(Debug, Default)]
struct Kept {
    watched: Option<Watched>,
    wished_by: BTreeSet<Id>,
    /// Until Docker's files change.
    facts: Option<Facts>,
    /// When Docker last wrote it, as far as it says.
    hashed: Option<SystemTime>,
    patience: Patience,
    looks: Looks,
    /// It is to be looked at then.
    due: Option<Instant>,
}

impl Book {
    /// `dir` is Docker's directory of containers.
    pub(super) fn new(dir: PathBuf, server: Ipv4Addr) -> io::Result<Self> {
        Ok(Self {
            dir,
            server,
            watch: Watch::new()?,
            wished: BTreeMap::new(),
            files: BTreeMap::new(),
            watched: BTreeMap::new(),
            news: VecDeque::new(),
        })
    }

    /// Waits until something has changed on disk.
    pub(super) async fn changes(&mut self) -> Changes {
        self.watch.changes().await
    }

    /// A container shall be led to dns, or shall not any more.
    pub(super) fn wish(&mut self, id: &Id, on: bool, now: Instant) {
        if !is_id(id) {
            return;
        }
        self.forget(id, now);
        if on {
            self.remember(id, now);
        } else if !self.files.contains_key(id) {
            self.put_back(id);
        }
    }

    fn remember(&mut self, id: &Id, now: Instant) {
        let (of, mounts_own) = match Facts::read(&self.dir.join(&**id)) {
            Ok(Facts { mode: Mode::Of(other), mounts_own, .. }) if is_id(&other) => {
                (other.into(), mounts_own)
            }
            Ok(facts) => (id.clone(), facts.mounts_own),
            Err(_) => (id.clone(), false),
        };
        self.wished.insert(id.clone(), Wished { of: of.clone(), mounts_own, told: None });
        self.files.entry(of.clone()).or_default().wished_by.insert(id.clone());
        self.look(&of, now);
    }

    fn forget(&mut self, id: &Id, now: Instant) {
        let Some(Wished { of, .. }) = self.wished.remove(id) else { return };
        let Some(kept) = self.files.get_mut(&of) else { return };
        kept.wished_by.remove(id);
        if kept.wished_by.is_empty() {
            let kept = self.files.remove(&of);
            if let Some(watched) = kept.and_then(|kept| kept.watched) {
                self.watch.remove(watched);
                self.watched.remove(&watched);
            }
            self.put_back(&of);
        } else {
            self.look(&of, now);
        }
    }

    /// Everything is known, so who is not wished for is not meant: an earlier control may have led it to dns.
    pub(super) fn put_back_all_others(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            if let Some(id) =
                entry.file_name().to_str().filter(|id| is_id(id) && !self.files.contains_key(*id))
            {
                self.put_back(id);
            }
        }
    }

    fn put_back(&self, id: &str) {
        let dir = self.dir.join(id);
        // What is gone, or out of reach, was not written by us either.
        let Ok(Some(found)) = ResolvConf::open(&dir) else { return };
        let Some(ours) = text::read(&found.text).filter(|ours| ours.server.is_some()) else { return };
        match found.write(&ours.original) {
            Ok(()) => debug!(container = id, "resolv.conf: what Docker had written is back"),
            Err(error) => {
                warn!(container = id, %error, "resolv.conf: what Docker had written can't be put back")
            }
        }
    }

    /// Something has changed on disk.
    pub(super) fn changed(&mut self, changes: Changes, now: Instant) {
        for gone in changes.gone {
            if let Some(kept) = self.watched.remove(&gone).and_then(|id| self.files.get_mut(&id)) {
                kept.watched = None;
            }
        }
        if changes.overflow {
            return self.look_at_all(now);
        }
        for watched in &changes.facts {
            if let Some(kept) = self.watched.get(watched).and_then(|id| self.files.get_mut(id)) {
                kept.facts = None;
            }
        }
        let ids: Vec<Id> =
            changes.changed.iter().filter_map(|watched| self.watched.get(watched).cloned()).collect();
        for id in ids {
            self.look(&id, now);
        }
    }

    /// What can't be watched, or was missed, is seen thus.
    pub(super) fn look_at_all(&mut self, now: Instant) {
        for kept in self.files.values_mut() {
            kept.facts = None;
        }
        let ids: Vec<Id> = self.files.keys().cloned().collect();
        for id in ids {
            self.look(&id, now);
        }
    }

    /// When [`Book::look_at_due`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.files.values().filter_map(|kept| kept.due).min()
    }

    pub(super) fn look_at_due(&mut self, now: Instant) {
        let due = self.files.iter().filter(|(_, kept)| kept.due.is_some_and(|due| due <= now));
        let ids: Vec<Id> = due.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.look(&id, now);
        }
    }

    fn look(&mut self, id: &Id, now: Instant) {
        let Some(kept) = self.files.get_mut(id) else { return };
        kept.due = None;
        if let Err(due) = kept.looks.may(now) {
            kept.due = Some(due);
            // Until then it costs nothing.
            if let Some(watched) = kept.watched.take() {
                self.watch.remove(watched);
                self.watched.remove(&watched);
            }
            return;
        }
        let says = match self.lead(id, now) {
            Ok(None) => return,
            Ok(Some(())) => Ok(()),
            Err(why) => Err(Arc::from(why)),
        };
        let Some(kept) = self.files.get(id) else { return };
        for by in &kept.wished_by {
            let Some(wished) = self.wished.get_mut(by) else { continue };
            let says = if wished.mounts_own { Err(MOUNTS_OWN.into()) } else { says.clone() };
            if wished.told.as_ref() == Some(&says) {
                continue;
            }
            if let Err(why) = &says {
                debug!(container = &**by, %why, "resolv.conf does not lead to dns");
            }
            wished.told = Some(says.clone());
            self.news.push_back(Observation::Resolver(by.clone(), says));
        }
    }

    /// Leads one to dns: `Some` when it does, `None` while Docker is not done with it.
    fn lead(&mut self, id: &Id, now: Instant) -> Result<Option<()>, String> {
        let dir = self.dir.join(&**id);
        let Some(kept) = self.files.get_mut(id) else { return Ok(None) };
        // Before anything is read, so that no change is missed.
        if kept.watched.is_none() {
            let watched = self.watch.add(&dir).map_err(|error| missing(&self.dir, &dir, &error))?;
            kept.watched = Some(watched);
            kept.facts = None;
            self.watched.insert(watched, id.clone());
        }
        let facts = match &kept.facts {
            Some(facts) => facts,
            None => kept.facts.insert(Facts::read(&dir)?),
        };
        let at = |error: io::Error| format!("{}/resolv.conf: {error}", dir.display());
        let Some(found) = ResolvConf::open(&dir).map_err(at)? else { return Ok(None) };
        if kept.hashed != found.hashed {
            // Docker's own doing; nothing in a container can make it look so.
            kept.hashed = found.hashed;
            kept.patience = Patience::default();
        }
        match judge(facts, &found.text, found.is_untouched, self.server) {
            Verdict::Wait => Ok(None),
            Verdict::Leave(Ok(())) if kept.patience.is_tried(now) => Err(QUARREL.to_owned()),
            Verdict::Leave(says) => says.map(Some),
            Verdict::Write(text, says) => {
                let next = kept.patience.next(now);
                if next > now {
                    kept.due = Some(next);
                    return Err(QUARREL.to_owned());
                }
                found.write(&text).map_err(at)?;
                kept.patience.wrote(now);
                debug!(container = &**id, "resolv.conf written");
                says.map(Some)
            }
        }
    }
}

const MOUNTS_OWN: &str = "it mounts an /etc/resolv.conf of its own";
const QUARREL: &str = "something writes its /etc/resolv.conf again and again";

/// Docker's ids are 64 hexadecimal digits. Nothing else may become part of a path.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn missing(all: &Path, dir: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound && !all.exists() {
        return format!(
            "{} is not there: mount Docker's directory of containers into control's container under that name, or say \
             --containers-dir",
            all.display()
        );
    }
    format!("{}: {error}", dir.display())
}

#[cfg(test)]
mod tests;
