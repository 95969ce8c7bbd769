//! The source against a server that answers as real Nomads did, and like Nomad in trouble.

use std::time::Duration;

use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::{
    observe::{AllocNetwork, Elsewhere, Life},
    sources::fake::{Fake, Reply, Script},
};

const RUNNING: &str = include_str!("recordings/running-2.0.5.json");
const STOPPED: &str = include_str!("recordings/stopped-2.0.5.json");
const SERVICE: &str = include_str!("recordings/service-2.0.5.json");
const SELF: &str = r#"{"stats":{"client":{"node_id":"d1b664bd-89d9-1371-4849-c261b9157c7c"}}}"#;
const NODE: &str = r#"{"ID":"d1b664bd-89d9-1371-4849-c261b9157c7c","Name":"a","Datacenter":"dc1"}"#;
const ALLOCS: &str = "/v1/node/d1b664bd-89d9-1371-4849-c261b9157c7c/allocations";
const NODE_PATH: &str = "/v1/node/d1b664bd-89d9-1371-4849-c261b9157c7c";
const LIVE: Observation = Observation::Live(SourceName::Nomad);
/// Nothing here takes a second; this is for a machine that is busy.
const EVER: Duration = Duration::from_secs(30);

fn at(index: &str, body: &str) -> Reply {
    Reply::ok([&format!("X-Nomad-Index: {index}"), "X-Nomad-KnownLeader: true"], body)
}

/// Answers, in turn, to the requests of each kind; and who the node is, whenever that is asked.
fn script<const N: usize>(parts: [(&'static str, Vec<Reply>); N]) -> Script {
    Script::new(parts)
        .always("/v1/agent/self", || Reply::ok([], SELF))
        .always(NODE_PATH, || Reply::ok(["X-Nomad-Index: 5"], NODE))
}

type Wanted = BTreeMap<ServiceName, BTreeSet<UserName>>;

fn wanted(pairs: &[(&str, &[&str])]) -> Wanted {
    let users = |users: &[&str]| users.iter().map(|user| user.parse().unwrap()).collect();
    pairs.iter().map(|(name, of)| (name.parse().unwrap(), users(of))).collect()
}

struct Bench {
    server: Fake,
    _dir: TempDir,
    facts: mpsc::Receiver<Observation>,
    wanted: state::Sender<Wanted>,
    wanted_allocs: state::Sender<BTreeSet<Arc<str>>>,
    _reread: mpsc::Sender<Arc<str>>,
    task: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    fn start(mut script: Script, wanted: Wanted) -> Self {
        Self::with_server(move |target| script.answer(target), wanted)
    }

    fn with_server(answers: impl FnMut(&str) -> Reply + Send + 'static, wanted: Wanted) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nomad.sock");
        let server = Fake::unix(&socket, answers);
        let address = format!("unix://{}", socket.display());
        let lookup = |name: &str| (name == "NOMAD_ADDR").then(|| address.clone());
        let config = NomadConfig::from_env(lookup, vec![dir.path().join("cni")]).unwrap().unwrap();
        let (wanted, wanted_allocs) = (state::Sender::new(wanted), state::Sender::new(BTreeSet::new()));
        let (reread, rereads) = mpsc::channel(8);
        let (sink, facts) = mpsc::channel(8);
        let inputs = NomadInputs {
            wanted: wanted.subscribe(),
            services_of: state::Sender::new(BTreeSet::new()).subscribe(),
            wanted_allocs: wanted_allocs.subscribe(),
            ports_known: Arc::default(),
            reread: rereads,
        };
        let task = tokio::spawn(NomadSource::new(config, inputs).run(sink));
        Self { server, _dir: dir, facts, wanted, wanted_allocs, _reread: reread, task }
    }

    async fn fact(&mut self) -> Observation {
        timeout(EVER, self.facts.recv()).await.expect("a fact is told").unwrap()
    }

    async fn failure(&mut self) -> String {
        match self.fact().await {
            Observation::Failed(SourceName::Nomad, error) => error,
            other => panic!("a failure is expected, not {other:?}"),
        }
    }

    async fn allocs(&mut self) -> Vec<Arc<Alloc>> {
        match self.fact().await {
            Observation::Allocs(allocs) => allocs,
            other => panic!("allocations are expected, not {other:?}"),
        }
    }

    /// A service, and the namespaces of its instances.
    async fn instances(&mut self) -> (String, Vec<String>) {
        match self.fact().await {
            Observation::Instances(SourceName::Nomad, name, instances) => {
                let of = instances.into_iter().map(|one| one.namespace.unwrap_or_default().to_string());
                (name.as_str().to_owned(), of.collect())
            }
            other => panic!("instances are expected, not {other:?}"),
        }
    }

    /// The next request for this, without those for other things.
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
async fn queries_follow_the_rules() {
    let replies = vec![at("12", RUNNING), at("12", RUNNING), at("5", "[]"), at("13", RUNNING)];
    let mut bench = Bench::start(script([(ALLOCS, replies)]), Wanted::new());
    assert_eq!(bench.allocs().await.len(), 2);
    assert_eq!(bench.fact().await, LIVE);
    assert_eq!(bench.request(ALLOCS).await, ALLOCS, "the leader is asked");
    for _ in 0..2 {
        let request = bench.request(ALLOCS).await;
        let wait = request.strip_prefix(&format!("{ALLOCS}?stale=&index=12&wait=")).expect(&request);
        let wait: u64 = wait.strip_suffix("ms").unwrap().parse().unwrap();
        assert!((56_000..=60_000).contains(&wait), "{wait}");
    }
    // The index went back, as a server's does that has just started: what it said does not count.
    assert_eq!(bench.request(ALLOCS).await, ALLOCS);
    assert!(bench.request(ALLOCS).await.starts_with(&format!("{ALLOCS}?stale=&index=13&")));
    assert!(bench.facts.try_recv().is_err(), "nothing has changed");
}

#[tokio::test]
async fn a_failure_is_told_and_takes_nothing_back() {
    let faults: Vec<(Reply, &str)> = vec![
        (Reply::status(500, "rpc error: No cluster leader\n"), "500 rpc error: No cluster leader"),
        (Reply::status(403, "Permission denied"), "node:read"),
        (Reply::status(404, "node not found"), "404 node not found"),
        (Reply::Broken { claimed: 9000, body: "[{\"ID\"".into() }, "error decoding response body"),
        (Reply::ok([], "<html>login</html>"), "not understood"),
        (at("3", "{}"), "not understood"),
        (Reply::ok([], RUNNING), "NOMAD_ADDR"),
        (Reply::ok(["X-Nomad-Index: 9", "X-Nomad-KnownLeader: false"], "[]"), "no leader"),
        (Reply::status(307, ""), "307"),
    ];
    let mut replies = vec![at("7", RUNNING)];
    let mut expected = Vec::new();
    for (fault, message) in faults {
        replies.extend([fault, at("7", RUNNING)]);
        expected.push(message);
    }
    let mut bench = Bench::start(script([(ALLOCS, replies)]), Wanted::new());
    assert_eq!(bench.allocs().await.len(), 2);
    for message in expected {
        assert_eq!(bench.fact().await, LIVE, "before {message}");
        let error = bench.failure().await;
        assert!(error.contains(message), "`{error}` should contain `{message}`");
    }
    assert_eq!(bench.fact().await, LIVE);
}

#[tokio::test]
async fn the_capability_that_a_token_lacks_is_named() {
    let denied = || Reply::status(403, "Permission denied");
    for (path, capability) in
        [("/v1/agent/self", "agent:read"), (NODE_PATH, "node:read"), (ALLOCS, "namespace:read-job")]
    {
        let mut bench = Bench::start(script([(path, vec![denied()])]), Wanted::new());
        let error = bench.failure().await;
        assert!(error.contains(capability), "{path}: {error}");
    }
}

#[tokio::test]
async fn an_empty_listing_is_told_also_after_a_failure() {
    let replies = vec![Reply::status(500, "No cluster leader"), at("1", "[]")];
    let mut bench = Bench::start(script([(ALLOCS, replies)]), wanted(&[("web", &[])]));
    assert!(bench.failure().await.contains("leader"));
    assert_eq!(bench.allocs().await, []);
    assert_eq!(
        bench.instances().await,
        ("web".into(), vec![]),
        "it is asked of no user, and told all the same"
    );
    assert_eq!(bench.fact().await, LIVE);
}

#[tokio::test]
async fn allocations_are_told_index_by_index() {
    let stopping = RUNNING.replacen(r#""DesiredStatus": "run""#, r#""DesiredStatus": "stop""#, 1);
    let replies = vec![at("12", RUNNING), at("13", &stopping), at("14", STOPPED), at("15", "null")];
    let mut bench = Bench::start(script([(ALLOCS, replies)]), Wanted::new());
    let [first, other] = &bench.allocs().await[..] else { panic!("two run") };
    assert_eq!((first.life, other.life), (Life::Placed, Life::Placed));
    // Without CNI's store the address is the one that Nomad tells.
    assert!(matches!(first.network, AllocNetwork::Bridge { address: Some(_), .. }), "{first:?}");
    assert_eq!(bench.fact().await, LIVE);
    let [first, same] = &bench.allocs().await[..] else { panic!("both are there still") };
    assert_eq!(first.life, Life::Stopping);
    assert!(Arc::ptr_eq(other, same), "what has not changed is not made anew");
    let stopped = bench.allocs().await;
    assert!(!stopped.is_empty() && stopped.iter().all(|alloc| alloc.life == Life::Dead));
    assert_eq!(bench.allocs().await, []);
}

#[tokio::test]
async fn services_are_asked_of_the_users_whose_they_may_be() {
    let alices = SERVICE.replace(r#""default""#, r#""alice""#);
    let answers = script([
        (ALLOCS, vec![at("1", "[]")]),
        ("/v1/service/web?namespace=default", vec![at("8", SERVICE)]),
        ("/v1/service/web?namespace=alice", vec![at("9", &alices)]),
    ]);
    let mut bench = Bench::start(answers, wanted(&[("web", &["default", "alice"])]));
    bench.allocs().await;
    let told = loop {
        match bench.fact().await {
            Observation::Instances(_, _, instances) => break instances,
            LIVE => {}
            other => panic!("{other:?}"),
        }
    };
    let of: BTreeSet<_> = told.iter().filter_map(|instance| instance.namespace.as_deref()).collect();
    assert_eq!(of.into_iter().collect::<Vec<_>>(), ["alice", "default"], "both together");
    let mut waiting = BTreeSet::new();
    while waiting.len() < 2 {
        let request = bench.request("/v1/service/web?stale=").await;
        waiting.insert(request.rsplit_once('&').unwrap().1.to_owned());
    }
    assert_eq!(waiting.into_iter().collect::<Vec<_>>(), ["namespace=alice", "namespace=default"]);
    bench.wanted.send_replace(Wanted::new());
    // The client gives both up.
    for _ in 0..2 {
        while !bench.server.requests.recv().await.unwrap().is_empty() {}
    }
}

#[tokio::test]
async fn a_namespace_that_may_not_be_read_holds_up_no_other() {
    let answers = script([
        (ALLOCS, vec![at("1", "[]")]),
        ("/v1/service/web?namespace=default", vec![at("8", SERVICE)]),
        ("/v1/service/web?namespace=bob", vec![Reply::status(403, "Permission denied")]),
    ]);
    let mut bench = Bench::start(answers, wanted(&[("web", &["default", "bob"])]));
    let (mut told, mut failed) = (None, None);
    while told.is_none() || failed.is_none() {
        match bench.fact().await {
            Observation::Instances(_, _, instances) => told = Some(instances.len()),
            Observation::Failed(_, error) => failed = Some(error),
            Observation::Allocs(_) | LIVE => {}
            other => panic!("{other:?}"),
        }
    }
    let error = failed.unwrap();
    assert_eq!(told, Some(1));
    assert!(error.starts_with("service web in namespace bob: 403") && error.contains("read-job"), "{error}");
}

#[tokio::test]
async fn a_nomad_without_services_of_its_own_has_none() {
    for status in [404, 307] {
        let answers = move |target: &str| match target {
            target if target.starts_with("/v1/service/") => Reply::status(status, ""),
            ALLOCS => at("1", "[]"),
            target if target.starts_with(ALLOCS) => Reply::Never,
            "/v1/agent/self" => Reply::ok([], SELF),
            _ => Reply::ok([], NODE),
        };
        let asked = wanted(&[("pg", &["alice"]), ("web", &["default"])]);
        let mut bench = Bench::with_server(answers, asked);
        bench.allocs().await;
        let mut told = Vec::new();
        while told.len() < 2 {
            match bench.fact().await {
                Observation::Instances(_, name, instances) => told.push((name.to_string(), instances.len())),
                LIVE => {}
                other => panic!("that is no failure: {other:?}"),
            }
        }
        assert_eq!(told, [("pg".to_owned(), 0), ("web".to_owned(), 0)]);
        bench.wanted.send_replace(wanted(&[("redis", &["alice"])]));
        let mut told = bench.fact().await;
        if told == LIVE {
            told = bench.fact().await;
        }
        assert!(matches!(told, Observation::Instances(_, name, _) if name.as_str() == "redis"));
    }
}

#[tokio::test]
async fn an_agent_that_comes_back_may_have_services_of_its_own() {
    let answers = script([
        (ALLOCS, vec![at("1", "[]"), Reply::status(500, "EOF"), at("2", "[]")]),
        ("/v1/service/web", vec![Reply::status(404, ""), at("8", SERVICE)]),
    ]);
    let mut bench = Bench::start(answers, wanted(&[("web", &["default"])]));
    bench.allocs().await;
    let mut told = Vec::new();
    while told.last() != Some(&1) {
        if let Observation::Instances(_, _, instances) = bench.fact().await {
            told.push(instances.len());
        }
    }
    assert!(told.len() <= 2, "{told:?}");
}

#[tokio::test]
async fn allocations_elsewhere_are_asked_for_until_they_are_told() {
    const IDS: [&str; 4] = [
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
        "33333333-3333-4333-8333-333333333333",
        "no-uuid",
    ];
    let alloc: serde_json::Value = serde_json::from_str(RUNNING).unwrap();
    let alloc = alloc[0].to_string();
    let answers = script([
        (ALLOCS, vec![at("1", "[]")]),
        (
            "/v1/allocation/11111111",
            vec![
                Reply::status(500, "No cluster leader"),
                Reply::Broken { claimed: 9000, body: "{".into() },
                Reply::ok(["X-Nomad-KnownLeader: false"], "{}"),
                at("9", &alloc),
            ],
        ),
        ("/v1/allocation/22222222", vec![Reply::status(404, "alloc not found")]),
        ("/v1/allocation/33333333", vec![Reply::status(403, "Permission denied")]),
    ]);
    let mut bench = Bench::start(answers, Wanted::new());
    bench.wanted_allocs.send_replace(IDS.into_iter().map(Into::into).collect());
    let mut told = BTreeMap::new();
    while told.len() < IDS.len() {
        if let Observation::AllocElsewhere(id, says) = bench.fact().await {
            told.insert(id, says);
        }
    }
    assert!(matches!(&told[IDS[0]], Elsewhere::Found(alloc) if &*alloc.namespace == "default"), "{told:?}");
    assert_eq!(told[IDS[1]], Elsewhere::Unknown);
    assert_eq!(told[IDS[2]], Elsewhere::Denied);
    assert_eq!(told[IDS[3]], Elsewhere::Unknown, "and Nomad was not asked");
}

#[tokio::test]
async fn more_services_than_connections_take_turns_and_the_node_does_not() {
    let many = (0..CONNECTIONS + 20).map(|n| format!("s{n}"));
    let many: Wanted = many.flat_map(|name| wanted(&[(&name, &["default"])])).collect();
    let few: Wanted = many.clone().into_iter().take(CONNECTIONS).collect();
    let (change, mut changed) = tokio::sync::watch::channel(false);
    let answers = move |target: &str| match target {
        "/v1/agent/self" => Reply::ok([], SELF),
        ALLOCS => at("1", "[]"),
        target if target.starts_with(ALLOCS) => match *changed.borrow_and_update() {
            true => Reply::Never,
            false => at("2", "[]"),
        },
        target if target.starts_with("/v1/node/") => Reply::ok([], NODE),
        // All wait as long as they may: those that wait long are given up when the others come.
        target if target.contains("wait=") && !target.contains("wait=1") && !target.contains("wait=2000") => {
            Reply::Never
        }
        _ => at("8", "[]"),
    };
    let mut bench = Bench::with_server(answers, few.clone());
    let mut seen = BTreeSet::new();
    while seen.len() < few.len() {
        if let Observation::Instances(_, name, _) = bench.fact().await {
            seen.insert(name);
        }
    }
    // All connections are taken by queries that wait; the node is asked all the same.
    while bench.server.requests.try_recv().is_ok() {}
    bench.request(ALLOCS).await;
    change.send_replace(true);
    bench.wanted.send_replace(many.clone());
    while seen.len() < many.len() {
        if let Observation::Instances(_, name, _) = bench.fact().await {
            seen.insert(name);
        }
    }
}
