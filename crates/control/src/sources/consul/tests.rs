//! The source against a server that answers like Consul, and like Consul in trouble.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::{
    observe::Health,
    sources::fake::{Fake, Reply, Script},
};

const SELF: &str = r#"{"Config":{"Datacenter":"dc1","NodeName":"n17"},"Member":{"Name":"n17"}}"#;
const NODE: &str = r#"{"Node":{"Node":"n17","Address":"10.0.0.5"},"Services":{"w1":{"ID":"w1","Service":"web",
    "Tags":null,"Address":"","Port":80,"Meta":null,"Weights":{"Passing":1,"Warning":1}}}}"#;
const WEB: &str = r#"[{"Node":{"Node":"n2","Address":"10.0.0.6"},"Service":{"ID":"w","Service":"web","Port":8080},
    "Checks":[{"Name":"http","Status":"critical","Output":"HTTP GET http://x: 503\nbody"}]}]"#;
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
/// Nothing here takes a second; this is for a machine that is busy.
const EVER: Duration = Duration::from_secs(30);

/// Answers, in turn, to the requests of each kind; and the node's name, whenever it is asked for.
fn script<const N: usize>(parts: [(&'static str, Vec<Reply>); N]) -> Script {
    Script::new(parts).always("/v1/agent/self", || Reply::ok([], SELF))
}

struct Bench {
    server: Fake,
    dir: TempDir,
    facts: mpsc::Receiver<Observation>,
    wanted: state::Sender<BTreeSet<ServiceName>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    fn start(mut script: Script, wanted: &[&str]) -> Self {
        Self::with_server(move |target| script.answer(target), names(wanted))
    }

    fn with_server(
        answers: impl FnMut(&str) -> Reply + Send + 'static,
        wanted: BTreeSet<ServiceName>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("consul.sock");
        let server = Fake::unix(&socket, answers);
        let config = config(&format!("unix://{}", socket.display()));
        let wanted = state::Sender::new(wanted);
        let (sink, facts) = mpsc::channel(8);
        let task = tokio::spawn(ConsulSource::new(config, wanted.subscribe(), CONNECTIONS).run(sink));
        Self { server, dir, facts, wanted, task }
    }

    async fn fact(&mut self) -> Observation {
        timeout(EVER, self.facts.recv()).await.expect("a fact is told").unwrap()
    }

    async fn failure(&mut self) -> String {
        match self.fact().await {
            Observation::Failed(SourceName::Consul, error) => error,
            other => panic!("a failure is expected, not {other:?}"),
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

fn config(address: &str) -> ConsulConfig {
    let lookup = |name: &str| (name == "CONSUL_HTTP_ADDR").then(|| address.to_owned());
    ConsulConfig::from_env(lookup).unwrap().unwrap()
}

fn names(names: &[&str]) -> BTreeSet<ServiceName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn node(index: &str) -> Reply {
    Reply::ok([&format!("X-Consul-Index: {index}"), "X-Consul-KnownLeader: true"], NODE)
}

#[track_caller]
fn is_registrations(fact: &Observation) {
    let Observation::Registrations { node, instances } = fact else { panic!("{fact:?}") };
    assert_eq!((&**node, instances.len(), &*instances[0].id), ("n17", 1, "w1"));
}

const LIVE: Observation = Observation::Live(SourceName::Consul);

#[tokio::test]
async fn queries_follow_the_rules() {
    let answers = script([("/v1/catalog/node/n17", vec![node("12"), node("12"), node("5"), node("0")])]);
    let mut bench = Bench::start(answers, &[]);
    is_registrations(&bench.fact().await);
    assert_eq!(bench.fact().await, LIVE);
    let path = "/v1/catalog/node/n17?";
    assert_eq!(bench.request(path).await, "/v1/catalog/node/n17?stale");
    for _ in 0..2 {
        let request = bench.request(path).await;
        assert!(request.starts_with("/v1/catalog/node/n17?stale&index=12&wait="), "{request}");
        let wait: u64 = request.rsplit_once('=').unwrap().1.strip_suffix("ms").unwrap().parse().unwrap();
        assert!((25_000..=30_000).contains(&wait), "{wait}");
    }
    // The index went back: ask anew; then it was 0, which would not wait.
    assert_eq!(bench.request(path).await, "/v1/catalog/node/n17?stale");
    assert!(bench.request(path).await.starts_with("/v1/catalog/node/n17?stale&index=1&"));
    assert!(bench.facts.try_recv().is_err(), "nothing has changed");
}

#[tokio::test]
async fn a_failure_is_told_and_takes_nothing_back() {
    let faults: Vec<(Reply, &str)> = vec![
        (Reply::status(500, "No cluster leader\n"), "500 No cluster leader"),
        (
            Reply::status(403, "Permission denied: token lacks permission 'node:read'"),
            "403 Permission denied: token",
        ),
        (Reply::Broken { claimed: 9000, body: "[{\"Node\"".into() }, "error decoding response body"),
        (Reply::ok([], "<html>login</html>"), "not understood"),
        (Reply::ok(["X-Consul-Index: 3"], "[]"), "not understood"),
        (Reply::ok([], NODE), "CONSUL_HTTP_ADDR"),
        (Reply::ok(["X-Consul-Index: 3", "X-Consul-KnownLeader: false"], "null"), "no leader"),
        (Reply::ok(["X-Consul-Index: 3", "X-Consul-Results-Filtered-By-ACLs: true"], "null"), "service:read"),
        (Reply::status(301, ""), "301"),
    ];
    let mut replies = vec![node("7")];
    let mut expected = Vec::new();
    for (fault, message) in faults {
        replies.extend([fault, node("7")]);
        expected.push(message);
    }
    let mut bench = Bench::start(script([("/v1/catalog/node/n17", replies)]), &[]);
    is_registrations(&bench.fact().await);
    for message in expected {
        assert_eq!(bench.fact().await, LIVE, "before {message}");
        let error = bench.failure().await;
        assert!(error.contains(message), "`{error}` should contain `{message}`");
    }
    assert_eq!(bench.fact().await, LIVE);
}

#[tokio::test]
async fn what_the_agent_still_has_is_not_gone_because_the_catalogue_forgot_it() {
    let gone = || Reply::ok(["X-Consul-Index: 9"], "null");
    let agent = |body: &'static str| Reply::ok([], body);
    let answers = script([
        ("/v1/catalog/node/n17", vec![node("7"), gone(), node("8"), gone()]),
        ("/v1/agent/services", vec![agent(r#"{"w1":{"ID":"w1","Service":"Web"}}"#), agent("{}")]),
    ]);
    let mut bench = Bench::start(answers, &[]);
    is_registrations(&bench.fact().await);
    assert_eq!(bench.fact().await, LIVE);
    let error = bench.failure().await;
    assert!(error.contains("lacks service w1"), "{error}");
    assert_eq!(bench.fact().await, LIVE, "in step again, and nothing has changed");
    match bench.fact().await {
        Observation::Registrations { instances, .. } => assert_eq!(instances, []),
        other => panic!("the agent says that it is gone, so it is: {other:?}"),
    }
}

#[tokio::test]
async fn a_huge_answer_is_refused() {
    let mut answers = script([("/v1/catalog/node/n17", vec![Reply::Huge(200)])]);
    let (_server, address) = Fake::tcp(move |target| answers.answer(target)).await;
    let (_wanted, wanted) = state::channel(BTreeSet::new());
    let (sink, mut facts) = mpsc::channel(8);
    let source = ConsulSource::new(config(&address.to_string()), wanted, CONNECTIONS).run(sink);
    let fact = tokio::select! {
        () = source => panic!("it has ended"),
        fact = facts.recv() => fact.unwrap(),
    };
    assert_eq!(fact, Observation::Failed(SourceName::Consul, "an answer of more than 32 MiB".into()));
}

#[tokio::test]
async fn an_agent_that_hangs_is_given_up() {
    let bench = Bench::with_server(|_| Reply::Never, BTreeSet::new());
    let client = config(&format!("unix://{}/consul.sock", bench.dir.path().display())).client;
    let error = client.get(&["agent", "self"], "", Duration::from_millis(10)).await.unwrap_err();
    assert!(matches!(error, crate::sources::SourceError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_node_that_is_not_registered_has_nothing() {
    let answers = script([("/v1/catalog/node/n17", vec![Reply::ok(["X-Consul-Index: 3"], "null")])]);
    let mut bench = Bench::start(answers, &[]);
    let fact = Observation::Registrations { node: "n17".into(), instances: Vec::new() };
    assert_eq!(bench.fact().await, fact);
    assert_eq!(bench.fact().await, LIVE);
}

#[tokio::test]
async fn an_agent_that_is_away_is_a_failure() {
    let config = config("unix:///nonexistent/consul.sock");
    let (_wanted, wanted) = state::channel(BTreeSet::new());
    let (sink, mut facts) = mpsc::channel(8);
    let source = tokio::spawn(ConsulSource::new(config, wanted, CONNECTIONS).run(sink));
    let fact = facts.recv().await.unwrap();
    let Observation::Failed(SourceName::Consul, error) = fact else { panic!("{fact:?}") };
    assert!(error.contains("No such file"), "{error}");
    drop(facts);
    source.await.unwrap();
}

#[tokio::test]
async fn services_are_watched_while_they_are_wanted() {
    let (node_path, web_path) = ("/v1/catalog/node/n17", "/v1/health/service/web");
    let answers =
        script([(node_path, vec![node("1")]), (web_path, vec![Reply::ok(["X-Consul-Index: 8"], WEB)])]);
    let mut bench = Bench::start(answers, &[]);
    is_registrations(&bench.fact().await);
    assert_eq!(bench.fact().await, LIVE);
    bench.wanted.send_replace(names(&["web"]));
    let fact = bench.fact().await;
    let Observation::Instances(_, name, instances) = &fact else { panic!("{fact:?}") };
    assert_eq!((name.as_str(), instances[0].port), ("web", 8080));
    assert_eq!(instances[0].health, Health::Critical("HTTP GET http://x: 503".into()));
    let request = bench.request("/v1/health/service/web?stale&index").await;
    assert!(request.starts_with("/v1/health/service/web?stale&index=8&wait="), "{request}");
    bench.wanted.send_replace(BTreeSet::new());
    // The client gives the query up.
    while !bench.server.requests.recv().await.unwrap().is_empty() {}
}

#[tokio::test]
async fn one_failing_service_stops_no_other() {
    let answers = script([
        ("/v1/catalog/node/n17", vec![node("1")]),
        (
            "/v1/health/service/bad",
            vec![Reply::status(500, "rpc error: EOF"), Reply::ok(["X-Consul-Index: 9"], "[]")],
        ),
        ("/v1/health/service/web", vec![Reply::ok(["X-Consul-Index: 8"], WEB)]),
    ]);
    let mut bench = Bench::start(answers, &["bad", "web"]);
    let mut facts = Vec::new();
    while !facts.contains(&LIVE) || facts.len() < 4 {
        facts.push(bench.fact().await);
    }
    let failed = "service bad: 500 rpc error: EOF".to_owned();
    assert!(facts.contains(&Observation::Failed(SourceName::Consul, failed)), "{facts:?}");
    let told =
        |name| facts.iter().any(|f| matches!(f, Observation::Instances(_, n, _) if n.as_str() == name));
    assert!(told("web") && told("bad"), "{facts:?}");
    assert_eq!(facts.last(), Some(&LIVE));
}

#[tokio::test]
async fn more_services_than_connections_take_turns() {
    let many: Vec<_> = (0..CONNECTIONS.get() + 20).map(|n| format!("s{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let few = names(&many[..CONNECTIONS.get() - 1]);
    let answers = |target: &str| match target {
        "/v1/agent/self" => Reply::ok([], SELF),
        target if target.contains("wait=") && !target.contains("wait=1") && !target.contains("wait=2000") => {
            Reply::Never
        }
        target if target.starts_with("/v1/catalog") => node("1"),
        _ => Reply::ok(["X-Consul-Index: 8"], "[]"),
    };
    let mut bench = Bench::with_server(answers, few.clone());
    let mut seen = BTreeSet::new();
    while seen.len() < few.len() {
        if let Observation::Instances(_, name, _) = bench.fact().await {
            seen.insert(name);
        }
    }
    // All connections are taken by queries that wait; the new ones are asked all the same, and soon.
    bench.wanted.send_replace(names(&many));
    while seen.len() < many.len() {
        if let Observation::Instances(_, name, _) = bench.fact().await {
            seen.insert(name);
        }
    }
}
