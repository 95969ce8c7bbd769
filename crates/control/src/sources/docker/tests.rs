//! The source against a server that answers like Docker.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::{
    observe::{Container, Health},
    sources::fake::{Fake, Reply},
};

const VERSION: &str = r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;
const NETWORK: &str = r#"{"Name":"bridge","Id":"n1","Driver":"bridge",
    "Options":{"com.docker.network.bridge.name":"docker0"},"Containers":MEMBERS}"#;
const MEMBER: &str = r#"{"c1":{"Name":"api","EndpointID":"e","MacAddress":"02:42:ac:11:00:02",
    "IPv4Address":"172.17.0.2/16","IPv6Address":""}}"#;
const RUNNING: &str = r#"[{"Id":"c1","Names":["/other/api","/api"],"Image":"i","State":"running",
    "Status":"Up 2 seconds (unhealthy)","Labels":{"steppe.connect_to":"web","maintainer":"x"},
    "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":24011,"Type":"tcp"},
        {"IP":"::","PrivatePort":80,"PublicPort":24011,"Type":"tcp"},{"PrivatePort":81,"Type":"tcp"}],
    "NetworkSettings":{"Networks":{"bridge":{"NetworkID":"n1","IPAddress":"172.17.0.2","IPPrefixLen":16,
        "MacAddress":"02:42:ac:11:00:02"},"other":{"NetworkID":"n2","IPAddress":"","MacAddress":""}}}}]"#;
/// Nothing here takes a second; this is for a machine that is busy.
const EVER: Duration = Duration::from_secs(30);
const LIVE: Observation = Observation::Live(SourceName::Docker);

/// What Docker answers now.
#[derive(Default)]
struct World {
    list: String,
    members: String,
    events: Option<mpsc::UnboundedReceiver<String>>,
    /// A list is taken in late: by then control knows of more ports.
    ports_while_listing: Option<Arc<AtomicU64>>,
}

struct Bench {
    world: Arc<Mutex<World>>,
    server: Fake,
    _dir: TempDir,
    facts: mpsc::Receiver<Observation>,
    reread: mpsc::Sender<Reread>,
    ports: Arc<AtomicU64>,
    events: mpsc::UnboundedSender<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    fn start(list: &str) -> Self {
        Self::with_period(list, LIST_EVERY)
    }

    fn with_period(list: &str, list_every: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let (events, stream) = mpsc::unbounded_channel();
        let world = World {
            list: list.to_owned(),
            members: "{}".to_owned(),
            events: Some(stream),
            ports_while_listing: None,
        };
        let world = Arc::new(Mutex::new(world));
        let server = Fake::unix(&socket, {
            let world = world.clone();
            move |target| world.lock().unwrap().answer(target)
        });
        let ports = Arc::new(AtomicU64::new(3));
        let (reread, wishes) = mpsc::channel(8);
        let (sink, facts) = mpsc::channel(8);
        let mut source = DockerSource::new(DockerConfig { socket }, ports.clone(), wishes);
        source.list_every = list_every;
        let task = tokio::spawn(source.run(sink));
        Self { world, server, _dir: dir, facts, reread, ports, events, task }
    }

    async fn fact(&mut self) -> Observation {
        timeout(EVER, self.facts.recv()).await.expect("a fact is told").unwrap()
    }

    async fn container(&mut self) -> Container {
        match self.fact().await {
            Observation::Container(container) => container,
            other => panic!("a container is expected, not {other:?}"),
        }
    }

    fn event(&self, kind: &str, action: &str, id: &str, attributes: &str) {
        let event = format!(
            r#"{{"Type":"{kind}","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{attributes}}},"time":1}}"#
        );
        self.events.send(event + "\n").unwrap();
    }

    /// Waits until something is asked for.
    async fn request(&mut self, path: &str) {
        loop {
            let request = timeout(EVER, self.server.requests.recv()).await.expect("a request comes").unwrap();
            if request.starts_with(path) {
                return;
            }
        }
    }

    /// The requests so far, without their version and query.
    fn requests(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(target) = self.server.requests.try_recv() {
            let path = target.split('?').next().unwrap();
            all.push(path.strip_prefix("/v1.41").unwrap_or(path).to_owned());
        }
        all
    }
}

impl World {
    fn answer(&mut self, target: &str) -> Reply {
        let path = target.split('?').next().unwrap();
        if path == "/version" {
            return Reply::ok([], VERSION);
        }
        match path.strip_prefix("/v1.41") {
            Some("/events") => self.events.take().map_or(Reply::Never, Reply::Stream),
            Some("/containers/json") => {
                if let Some(ports) = &self.ports_while_listing {
                    ports.fetch_add(1, Ordering::SeqCst);
                }
                Reply::ok([], &self.list)
            }
            Some("/networks/n1") => Reply::ok([], &NETWORK.replace("MEMBERS", &self.members)),
            _ => Reply::status(404, &format!("{{\"message\":\"no such thing: {target}\"}}")),
        }
    }
}

#[tokio::test]
async fn a_listing_comes_first_then_live() {
    let mut bench = Bench::start(RUNNING);
    let Observation::Containers(all) = bench.fact().await else { panic!() };
    let [container] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&*container.id, &*container.name, container.ports_known), ("c1", "api", 3));
    let labels = BTreeMap::from([("steppe.connect_to".to_owned(), "web".to_owned())]);
    assert_eq!(container.labels, labels, "no others are kept");
    let [attachment] = &container.attachments[..] else { panic!("{container:?}") };
    assert_eq!((&*attachment.bridge, attachment.ip.to_string().as_str()), ("docker0", "172.17.0.2"));
    assert_eq!(
        (attachment.prefix_len, attachment.mac.unwrap().to_string().as_str()),
        (16, "02:42:ac:11:00:02")
    );
    let ports = container.published.iter().map(|port| (port.host_ip, port.host_port, port.container_port));
    let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    assert_eq!(ports.collect::<Vec<_>>(), every.map(|ip| (ip, 24011, 80)));
    assert!(matches!(&container.health, Health::Critical(why) if why.contains("unhealthy")));
    assert_eq!(bench.fact().await, LIVE);
}

#[tokio::test]
async fn a_starting_container_is_told_from_its_network() {
    let mut bench = Bench::start("[]");
    assert_eq!(bench.fact().await, Observation::Containers(Vec::new()));
    assert_eq!(bench.fact().await, LIVE);
    bench.world.lock().unwrap().members = MEMBER.to_owned();
    bench.requests();
    bench.event("container", "create", "c1", r#"{"name":"api","steppe.user":"alice"}"#);
    bench.event("network", "connect", "n1", r#"{"container":"c1","type":"bridge"}"#);
    let container = bench.container().await;
    assert_eq!((&*container.name, container.labels["steppe.user"].as_str()), ("api", "alice"));
    assert_eq!(container.attachments[0].ip.to_string(), "172.17.0.2");
    let asked = bench.requests();
    assert!(!asked.iter().any(|path| path.starts_with("/containers")), "nothing that could block: {asked:?}");

    bench.world.lock().unwrap().list = RUNNING.to_owned();
    bench.event("container", "start", "c1", "{}");
    assert_eq!(bench.container().await.published.len(), 2);

    bench.world.lock().unwrap().list = RUNNING.replace("\"running\"", "\"exited\"");
    bench.event("container", "die", "c1", r#"{"exitCode":"0"}"#);
    assert_eq!(bench.fact().await, Observation::ContainerGone("c1".into()));
}

#[tokio::test]
async fn ports_are_counted_before_the_question() {
    let mut bench = Bench::start(RUNNING);
    bench.fact().await;
    assert_eq!(bench.fact().await, LIVE);
    bench.world.lock().unwrap().ports_while_listing = Some(bench.ports.clone());
    bench.reread.send(Reread::Container("c1".into())).await.unwrap();
    assert_eq!(bench.container().await.ports_known, 3, "the answer may be older than the port");
    bench.reread.send(Reread::All).await.unwrap();
    let Observation::Containers(all) = bench.fact().await else { panic!() };
    assert_eq!(all[0].ports_known, 4);
}

#[tokio::test]
async fn an_end_of_the_events_is_a_failure_and_then_everything_is_listed_again() {
    let mut bench = Bench::start(RUNNING);
    assert!(matches!(bench.fact().await, Observation::Containers(all) if all.len() == 1));
    assert_eq!(bench.fact().await, LIVE);
    bench.request("/v1.41/events").await;
    let (events, stream) = mpsc::unbounded_channel();
    {
        let mut world = bench.world.lock().unwrap();
        world.list = "[]".to_owned();
        world.events = Some(stream);
    }
    bench.events = events;
    let ended = Observation::Failed(SourceName::Docker, "the stream of events has ended".into());
    assert_eq!(bench.fact().await, ended);
    assert_eq!(bench.fact().await, Observation::Containers(Vec::new()));
    assert_eq!(bench.fact().await, LIVE);
}

#[tokio::test]
async fn nonsense_is_a_failure_told_once() {
    let mut bench = Bench::start("[{\"Id\":");
    assert!(matches!(bench.fact().await, Observation::Failed(SourceName::Docker, _)));
    for _ in 0..3 {
        bench.request("/v1.41/containers/json").await;
    }
    bench.world.lock().unwrap().list = "[{},{\"Id\":\"\"}]".to_owned();
    assert_eq!(bench.fact().await, Observation::Containers(Vec::new()), "what has no id is passed over");
    assert_eq!(bench.fact().await, LIVE);
}

#[tokio::test]
async fn everything_is_listed_again_from_time_to_time() {
    let mut bench = Bench::with_period(RUNNING, Duration::from_millis(10));
    bench.fact().await;
    assert_eq!(bench.fact().await, LIVE);
    assert!(matches!(bench.fact().await, Observation::Containers(all) if all.len() == 1));
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_a_failure() {
    let (_reread, wishes) = mpsc::channel(1);
    let config = DockerConfig { socket: "/nonexistent/docker.sock".into() };
    let (sink, mut facts) = mpsc::channel(1);
    let source = tokio::spawn(DockerSource::new(config, Arc::default(), wishes).run(sink));
    let fact = facts.recv().await.unwrap();
    assert!(
        matches!(&fact, Observation::Failed(_, error) if error.contains("/nonexistent/docker.sock")),
        "{fact:?}"
    );
    drop(facts);
    source.abort();
}
