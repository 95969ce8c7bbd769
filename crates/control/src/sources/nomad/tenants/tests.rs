//! What the follower tells, against a server that answers as Nomad does.

use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::sources::fake::{Fake, Reply, Script};

/// Nothing here takes a second; this is for a machine that is busy.
const EVER: Duration = Duration::from_secs(30);
const NAMESPACES: &str = r#"[{"Name":"alice"},{"Name":"default"},{"Name":"Bob"},{"Name":"no.user"}]"#;
const SERVICES: &str = r#"[{"Namespace":"alice","Services":[{"ServiceName":"Redis","Tags":["a"]},{"ServiceName":"not a name","Tags":[]}]}]"#;
const JOB: &str = r#"{"ID":"shop","Name":"shop","TaskGroups":[{"Name":"web","Services":[{"Name":"${JOB}-front"}],
    "Tasks":[{"Name":"t","Services":[{"Name":"api"},{"Name":"of-${node.unique.name}"}]}]}]}"#;

fn at(index: u32, body: &str) -> Reply {
    Reply::ok([&format!("X-Nomad-Index: {index}"), "X-Nomad-KnownLeader: true"], body)
}

fn jobs(changed: u32) -> String {
    format!(
        r#"[{{"ID":"shop","Stop":false,"JobModifyIndex":{changed}}},{{"ID":"gone","Stop":true,"JobModifyIndex":3}}]"#
    )
}

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn set<T: std::str::FromStr<Err: std::fmt::Debug> + Ord>(names: &[&str]) -> BTreeSet<T> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

struct Bench {
    server: Fake,
    _dir: TempDir,
    services_of: state::Sender<BTreeSet<UserName>>,
    facts: mpsc::Receiver<Observation>,
    task: JoinHandle<Unheard>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    fn start(mut script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nomad.sock");
        let server = Fake::unix(&socket, move |target| script.answer(target));
        let address = format!("unix://{}", socket.display());
        let lookup = |name: &str| (name == "NOMAD_ADDR").then(|| address.clone());
        let config = NomadConfig::from_env(lookup, Vec::new()).unwrap().unwrap();
        let services_of = state::Sender::new(BTreeSet::new());
        let (sink, facts) = mpsc::channel(8);
        let task = tokio::spawn(Tenants::new(config, services_of.subscribe(), sink).follow());
        Self { server, _dir: dir, services_of, facts, task }
    }

    async fn fact(&mut self) -> Observation {
        timeout(EVER, self.facts.recv()).await.expect("a fact is told").unwrap()
    }

    /// The next request for this.
    async fn request(&mut self, path: &str) -> String {
        loop {
            let request = timeout(EVER, self.server.requests.recv()).await.expect("a request comes").unwrap();
            if request.starts_with(path) {
                return request;
            }
        }
    }
}

#[tokio::test]
async fn namespaces_are_users_and_default_is_none() {
    let more = r#"[{"Name":"alice"}]"#;
    let mut bench = Bench::start(Script::new([("/v1/namespaces", vec![at(7, NAMESPACES), at(8, more)])]));
    assert_eq!(bench.fact().await, Observation::Users(set(&["alice", "Bob"])));
    assert_eq!(bench.fact().await, Observation::Users(set(&["alice"])));
    assert_eq!(bench.request("/v1/namespaces").await, "/v1/namespaces");
    assert!(bench.request("/v1/namespaces").await.starts_with("/v1/namespaces?stale=&index=7&wait="));
}

#[tokio::test]
async fn services_come_from_nomad_and_from_jobs_which_are_read_when_they_were_changed() {
    let listed = [at(20, &jobs(5)), at(21, &jobs(5)), at(22, &jobs(6)), at(23, "[]")];
    let other = JOB.replace("\"api\"", "\"other\"");
    let mut bench = Bench::start(Script::new([
        ("/v1/services?", vec![at(9, SERVICES)]),
        ("/v1/jobs?", listed.into()),
        ("/v1/job/shop?", vec![at(5, JOB), at(6, &other)]),
    ]));
    bench.services_of.send_replace(set(&["alice"]));
    let told = |names: &[&str]| Observation::ServicesOf(user("alice"), set(names));
    assert_eq!(bench.fact().await, told(&["api", "redis", "shop-front"]));
    assert_eq!(
        bench.fact().await,
        told(&["other", "redis", "shop-front"]),
        "what did not change is not told"
    );
    assert_eq!(bench.fact().await, told(&["redis"]));
    let mut reads = 0;
    while let Ok(request) = bench.server.requests.try_recv() {
        reads += usize::from(request.starts_with("/v1/job/"));
    }
    assert_eq!(reads, 2, "a job is read when it was changed");
}

#[tokio::test]
async fn where_nothing_is_to_be_seen_there_is_nothing() {
    let denied = || Reply::Whole { status: 403, head: Vec::new(), body: "Permission denied".into() };
    let unknown = Reply::Whole { status: 404, head: Vec::new(), body: String::new() };
    let mut bench = Bench::start(Script::new([
        ("/v1/namespaces", vec![denied()]),
        ("/v1/services?", vec![unknown]),
        ("/v1/jobs?", vec![denied()]),
    ]));
    assert_eq!(bench.fact().await, Observation::Users(BTreeSet::new()));
    bench.services_of.send_replace(set(&["alice"]));
    assert_eq!(bench.fact().await, Observation::ServicesOf(user("alice"), BTreeSet::new()));
}

#[tokio::test]
async fn a_failure_takes_nothing_back_and_who_is_not_asked_for_any_more_is_not_told() {
    let failed = Reply::Whole { status: 500, head: Vec::new(), body: "No cluster leader".into() };
    let mut bench = Bench::start(Script::new([
        ("/v1/services?", vec![at(9, SERVICES), failed]),
        ("/v1/jobs?", vec![at(20, "[]"), at(21, "[]")]),
    ]));
    bench.services_of.send_replace(set(&["alice"]));
    assert_eq!(bench.fact().await, Observation::ServicesOf(user("alice"), set(&["redis"])));
    bench.request("/v1/services?").await;
    bench.request("/v1/services?").await;
    bench.services_of.send_replace(BTreeSet::new());
    // Its questions are given up.
    while !timeout(EVER, bench.server.requests.recv()).await.expect("a question ends").unwrap().is_empty() {}
    assert!(bench.facts.try_recv().is_err());
}
