//! Desired state from control, put in force.

use std::sync::Arc;

use steppe_api::sync::{Agent, Change, Rejection};
use steppe_model::Resource;
use tokio::sync::watch;
use tracing::info;

use crate::{
    desk::Desk,
    zone::{Edit, View},
};

/// Makes desired state true.
#[derive(Debug)]
pub(crate) struct DnsAgent {
    desk: Arc<Desk>,
    settled: watch::Sender<bool>,
}

impl DnsAgent {
    /// `settled` is told once control has told everything.
    pub(crate) fn new(desk: Arc<Desk>, settled: watch::Sender<bool>) -> Self {
        Self { desk, settled }
    }
}

#[tonic::async_trait]
impl Agent for DnsAgent {
    fn inventory(&self) -> Vec<Resource> {
        self.desk.zone().resources()
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Vec<Rejection> {
        let (mut edits, mut rejections) = (Vec::with_capacity(changes.len()), Vec::new());
        for change in changes {
            let id = change.id();
            match change {
                // What takes time is done before the lock.
                Change::Upsert(Resource::Asker(asker)) => edits.push(Edit::Asker(Arc::new(View::new(asker)))),
                Change::Upsert(Resource::Member(member)) => edits.push(Edit::Member(member)),
                Change::Remove(id) => edits.push(Edit::Remove(id)),
                Change::Upsert(_) => rejections.push(Rejection {
                    id,
                    reason: "dns takes askers and members; this is for another agent".into(),
                }),
            }
        }
        self.desk.edit(edits);
        rejections
    }

    fn settled(&mut self) {
        let mut zone = self.desk.zone_mut();
        if !zone.settled {
            zone.settled = true;
            let (askers, members) = zone.counts();
            info!(askers, members, "everything is known");
        }
        drop(zone);
        self.settled.send_replace(true);
    }
}
