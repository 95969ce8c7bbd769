//! One connection to Docker's daemon, from the first listing to the first failure.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{
    Docker,
    errors::Error as DockerError,
    models::EventMessage,
    query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder},
};
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    DockerConfig, Reread,
    connect::{answer, connect, is_missing},
    convert::{self, Listed, Network},
    event::{self, Event},
    ledger::{Ledger, Questions},
};
use crate::{
    observe::{Observation, SourceName},
    sources::{SourceError, Unheard, warn_once::WarnOnce},
};

/// Events that are there already are taken in together, so that a hundred starts need few questions.
const BATCH: usize = 256;

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// Nobody listens any more.
    Unheard,
    /// Docker failed.
    Failed(SourceError),
}

impl From<Unheard> for End {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

impl<E: Into<SourceError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) struct Session<'a> {
    config: &'a DockerConfig,
    ports_known: &'a AtomicU64,
    sink: &'a mpsc::Sender<Observation>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        config: &'a DockerConfig,
        ports_known: &'a AtomicU64,
        sink: &'a mpsc::Sender<Observation>,
    ) -> Self {
        Self { config, ports_known, sink }
    }

    /// Follows the daemon until it fails or nobody listens any more, and lists everything again from time to time.
    /// `live` becomes true once everything was told.
    pub(super) async fn follow(
        self,
        list_every: Duration,
        wishes: &mut mpsc::Receiver<Reread>,
        live: &mut bool,
    ) -> Result<Infallible, End> {
        let docker = connect(self.config).await?;
        let mut events = subscribe(&docker).ready_chunks(BATCH);
        let mut follower = Follower {
            docker,
            ports_known: self.ports_known,
            sink: self.sink,
            ledger: Ledger::default(),
            odd: WarnOnce::default(),
        };
        follower.list_all().await?;
        follower.tell([Observation::Live(SourceName::Docker)]).await?;
        *live = true;
        let mut again = interval_at(Instant::now() + list_every, list_every);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                batch = events.next() => follower.take_in(batch.ok_or(SourceError::StreamEnded)?).await?,
                Some(wish) = wishes.recv() => follower.reread(wish, wishes).await?,
                _ = again.tick() => follower.list_all().await?,
                () = self.sink.closed() => return Err(End::Unheard),
            }
        }
    }
}

struct Follower<'a> {
    docker: Docker,
    ports_known: &'a AtomicU64,
    sink: &'a mpsc::Sender<Observation>,
    ledger: Ledger,
    odd: WarnOnce,
}

impl Follower<'_> {
    async fn take_in(&mut self, batch: Vec<Result<EventMessage, DockerError>>) -> Result<(), End> {
        let mut questions = Questions::default();
        for message in batch {
            let Some(event) = Event::read(message?, &mut self.odd) else { continue };
            let fact = self.ledger.event(event, &mut questions);
            self.tell(fact).await?;
        }
        self.ask(questions).await
    }

    /// Fulfils a wish and those that wait behind it.
    async fn reread(&mut self, first: Reread, wishes: &mut mpsc::Receiver<Reread>) -> Result<(), End> {
        let mut questions = Questions::default();
        let mut all = false;
        let mut next = Some(first);
        while let Some(wish) = next {
            match wish {
                Reread::Container(id) => self.ledger.reread(&id, &mut questions),
                Reread::All => all = true,
            }
            next = wishes.try_recv().ok();
        }
        if all {
            self.list_all().await?;
            questions = Questions::default();
            self.ledger.reread_all_starting(&mut questions);
        }
        self.ask(questions).await
    }

    async fn ask(&mut self, questions: Questions) -> Result<(), End> {
        for (id, asked_for) in questions.inspect.iter().filter(|(_, asked_for)| !asked_for.is_empty()) {
            let ports_known = self.ports_known.load(Ordering::Acquire);
            let Some(network) = self.inspect(id).await? else { continue };
            let facts = self.ledger.inspected(id, &network, asked_for, ports_known);
            self.tell(facts).await?;
        }
        if questions.list.is_empty() {
            return Ok(());
        }
        let ids = questions.list.iter().map(|id| id.to_string()).collect();
        let (list, ports_known) = self.list(Some(ids)).await?;
        let facts = self.ledger.listed(list, &questions, ports_known);
        self.tell(facts).await
    }

    async fn list_all(&mut self) -> Result<(), End> {
        let (list, ports_known) = self.list(None).await?;
        let facts = self.ledger.listed_all(list, ports_known);
        self.tell(facts).await
    }

    /// Lists these containers or all of them, and learns the bridges of their networks.
    async fn list(&mut self, ids: Option<Vec<String>>) -> Result<(Vec<Listed>, u64), SourceError> {
        let mut options = ListContainersOptionsBuilder::new().all(true);
        if let Some(ids) = ids {
            options = options.filters(&HashMap::from([("id", ids)]));
        }
        let ports_known = self.ports_known.load(Ordering::Acquire);
        let list = answer(self.docker.list_containers(Some(options.build()))).await?;
        let list: Vec<_> =
            list.into_iter().filter_map(|summary| convert::listed(summary, &mut self.odd)).collect();
        for id in self.ledger.unknown_networks(&list) {
            // Gone meanwhile: so are its addresses.
            if let Some(network) = self.inspect(&id).await? {
                self.ledger.learn(id, &network);
            }
        }
        for id in self.ledger.unknown_aliases(&list) {
            let Some(listed) = list.iter().find(|listed| listed.id == id) else { continue };
            match answer(self.docker.inspect_container(&id, None)).await {
                Ok(inspected) => self.ledger.learn_aliases(listed, convert::aliases(inspected)),
                // Gone meanwhile.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((list, ports_known))
    }

    /// None if the network does not exist any more.
    async fn inspect(&mut self, id: &str) -> Result<Option<Network>, SourceError> {
        match answer(self.docker.inspect_network(id, None)).await {
            Ok(inspected) => Ok(Some(convert::network(id, inspected, &mut self.odd))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tell(&self, facts: impl IntoIterator<Item = Observation>) -> Result<(), End> {
        for fact in facts {
            self.sink.send(fact).await.map_err(Unheard::from)?;
        }
        Ok(())
    }
}

/// The events from now on: the request goes out with the first poll, so Docker is told what "now" is. The last second
/// comes again, as Docker's list can be that much behind its events.
fn subscribe(docker: &Docker) -> BoxStream<'static, Result<EventMessage, DockerError>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = format!("{}.{:09}", now.as_secs().saturating_sub(1), now.subsec_nanos());
    let options = EventsOptionsBuilder::new().since(&since).filters(&event::filters()).build();
    docker.events(Some(options)).boxed()
}
