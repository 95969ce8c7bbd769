//! The sockets, as a person with `grpcurl` finds them: everything is described, everybody may look who is of the
//! group, and nobody but control may change anything.
//!
//! grpcurl speaks v1alpha of server reflection alone, as all its releases before 1.8.8 do.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};
use steppe_testbed::{Cluster, Daemon, Host, Identity, Output, RUN_DIR, Run, eventually};

use crate::common::{
    SOON,
    programs::{binary, grpcurl},
    reach::{reaches, refused},
    vip,
};

/// A member of the group that none of Steppe's processes is.
const OPERATOR: Identity = Identity { uid: 60_777, capability: None };

fn sockets(host: &Host) -> [(&Daemon, &'static str); 3] {
    let suite = &host.suite;
    [
        (&suite.control, "steppe.v1.Control"),
        (&suite.proxy, "steppe.v1.Proxy"),
        (&suite.netfilter_agent, "steppe.v1.NetfilterAgent"),
    ]
}

fn alone() -> Cluster {
    let cluster = Cluster::hosts(1).without_consul().start();
    cluster.one().suite.start();
    cluster
}

#[test]
fn everything_is_described_with_the_comments_of_the_proto_files() {
    let cluster = alone();
    let a = cluster.one();
    let symbols = symbols();
    for (daemon, service) in sockets(a) {
        let list = a.grpcurl(daemon, &[], &["list"]).ok();
        let mut expected = vec![
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            service,
        ];
        // Orders about users' networks are on control's socket as well.
        expected.extend(Some("steppe.v1.Networks").filter(|_| service == "steppe.v1.Control"));
        assert_eq!(list.lines().collect::<Vec<_>>(), expected);
        assert_is_described(a, daemon, service, &symbols[service]);
        assert_answers(a, daemon, service);
        assert_is_healthy(a, daemon, service);
    }
    // Any socket describes every message; one stands for all.
    let messages =
        symbols.iter().filter(|(symbol, _)| sockets(a).iter().all(|(_, service)| service != symbol));
    for (symbol, comments) in messages {
        assert_is_described(a, &a.suite.proxy, symbol, comments);
    }
}

fn assert_is_described(host: &Host, daemon: &Daemon, symbol: &str, comments: &[String]) {
    let described = host.grpcurl(daemon, &[], &["describe", symbol]).ok();
    for comment in comments {
        assert!(described.contains(comment.as_str()), "`{comment}` is not in {described}");
    }
}

/// Every call that ends by itself answers to an empty request.
fn assert_answers(host: &Host, daemon: &Daemon, service: &str) {
    let described = host.grpcurl(daemon, &[], &["describe", service]).ok();
    let methods = described.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
    let unary: Vec<_> = methods.filter(|method| !method.contains("stream ")).collect();
    assert!(!unary.is_empty(), "{described}");
    for method in unary {
        let name = method.split([' ', '(']).next().unwrap_or_default();
        let answer = host.grpcurl(daemon, &["-d", "{}"], &[&format!("{service}/{name}")]);
        let answer = answer.ok();
        assert!(serde_json::from_str::<Value>(&answer).is_ok(), "{name}: {answer}");
    }
}

fn assert_is_healthy(host: &Host, daemon: &Daemon, service: &str) {
    let asked = json!({ "service": service }).to_string();
    for asked in ["{}", &asked] {
        let answer = host.grpcurl(daemon, &["-d", asked], &["grpc.health.v1.Health/Check"]).ok();
        assert!(answer.contains("\"SERVING\""), "{answer}");
    }
    let listed = host.grpcurl(
        daemon,
        &["-d", r#"{"listServices":"*"}"#],
        &["grpc.reflection.v1.ServerReflection/ServerReflectionInfo"],
    );
    let listed = listed.ok();
    assert!(listed.contains(service), "by v1 of reflection too: {listed}");
}

/// The messages, enums and services of the .proto files, and the lines of comment before and in each.
fn symbols() -> BTreeMap<String, Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/steppe/v1");
    let mut symbols = BTreeMap::new();
    for file in fs::read_dir(&folder).expect("the .proto files are there") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("it can be read");
        read_symbols(&text, &mut symbols);
    }
    assert!(symbols.len() > 30, "{:?}", symbols.keys());
    symbols
}

fn read_symbols(text: &str, symbols: &mut BTreeMap<String, Vec<String>>) {
    let mut comments = Vec::new();
    let mut symbol = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &symbol) {
            (["//", ..], _) => comments.push(line.trim().to_owned()),
            (["message" | "enum" | "service", name, ..], None) => {
                symbol = Some(format!("steppe.v1.{name}"));
                if line.ends_with('}') {
                    symbols.extend(symbol.take().map(|symbol| (symbol, std::mem::take(&mut comments))));
                }
            }
            (_, Some(_)) if line == "}" => {
                symbols.extend(symbol.take().map(|symbol| (symbol, std::mem::take(&mut comments))));
            }
            // The head of the file and its sections.
            ([], None) => comments.clear(),
            _ => {}
        }
    }
}

#[test]
fn the_group_may_look_and_nobody_but_control_may_change() {
    let cluster = alone();
    let a = cluster.one();
    let uids = [0, Identity::PROXY.uid, Identity::NETFILTER_AGENT.uid];
    for ((daemon, service), uid) in sockets(a).into_iter().zip(uids) {
        let socket = socket(daemon);
        let stat = a.exec("stat", &["--format=%a %u %g %F", &socket]).ok();
        assert_eq!(stat.trim(), format!("660 {uid} 60700 socket"), "{socket}");
        let list = if service.ends_with("Control") {
            "GetStatus"
        } else {
            assert_is_refused(
                as_operator(a, daemon, SNAPSHOT, &format!("{service}/Sync")),
                "uid 0 (control)",
            );
            "GetStatus"
        };
        as_operator(a, daemon, "{}", &format!("{service}/{list}")).ok();
        let stranger = as_stranger(a, daemon, &format!("{service}/{list}"));
        assert_ne!(stranger.code, 0, "{}", stranger.stdout);
        assert!(stranger.stderr.contains("permission denied"), "{}", stranger.stderr);
    }
}

#[test]
fn root_is_nobody_where_control_has_a_uid_of_its_own_and_control_checks_who_the_agents_are() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    for agent in [&a.suite.netfilter_agent, &a.suite.proxy] {
        agent.arg("--control-uid=60709");
    }
    a.suite.start();
    for (daemon, service) in &sockets(a)[1..] {
        let refused = a.grpcurl(daemon, &["-d", SNAPSHOT], &[&format!("{service}/Sync")]);
        assert_is_refused(refused, "uid 60709 (control)");
        let control = Identity { uid: 60_709, capability: None };
        let answer = run_as(a, control, daemon, SNAPSHOT, &format!("{service}/Sync"));
        assert!(answer.ok().contains("inventoryEnd"));
    }
    // Control itself runs as root here, and says why nothing gets in force.
    let status = a.steppe(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.stdout.contains("uid 60709"), "{}", status.stdout);

    // Somebody of the group sits where the proxy should.
    a.suite.proxy.kill();
    // In a sticky directory the next one must be root or the owner of what is in the way.
    a.exec("rm", &[&socket(&a.suite.proxy)]).ok();
    let proxy = binary("steppe-proxy");
    let impostor = a.daemon("impostor", OPERATOR, &[proxy.to_str().expect("text")]);
    impostor.start();
    impostor.wait_log("serving", SOON);
    let line = eventually(SOON, "control finds it out", || {
        let status = a.steppe(&["status"]).stdout;
        let found = status.lines().find(|line| line.contains("60777")).map(str::to_owned);
        found.ok_or(status)
    });
    assert!(line.contains("60701"), "{line}");
    drop(impostor);
}

/// The beginning of a Sync stream. It names nothing and does not end, so it removes nothing.
const SNAPSHOT: &str = r#"{"version":1,"snapshotBegin":{}}"#;

#[test]
fn nonsense_is_rejected_alone_and_the_others_carry_on() {
    let cluster = alone();
    let a = cluster.one();
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let api = a.docker.run(Run::idle("api").label("steppe.connect_to", "web:80"));
    let stranger = a.docker.run(Run::idle("stranger"));
    let web = vip(a, "web", 80);
    reaches(&api, web);
    let held = a.docker.run(Run::hold("held", web).label("steppe.connect_to", "web:80"));
    let held = held.lines();
    eventually(SOON, "a connection is held", || {
        let line = held.next(SOON);
        if line.contains(" open ") { Ok(()) } else { Err(line) }
    });

    // Whoever opens a second stream takes the place of the first, and control would do the same to us.
    a.suite.control.freeze();
    for (daemon, service, messages) in [
        (&a.suite.proxy, "steppe.v1.Proxy", for_the_proxy()),
        (&a.suite.netfilter_agent, "steppe.v1.NetfilterAgent", for_the_firewall()),
    ] {
        assert_rejected(a, daemon, service, &messages);
        assert_breaches_end_the_stream(a, daemon, &format!("{service}/Sync"));
        assert!(daemon.is_running());
        assert_eq!(reaches(&api, web), "web-1");
        refused(&stranger, web);
    }
    let good = a.grpcurl(&a.suite.proxy, &[], &["steppe.v1.Proxy/ListListeners"]).ok();
    assert!(good.contains("\"good:7/tcp\""), "what made sense is in force: {good}");
    a.suite.control.thaw();
    eventually(SOON, "control has put everything right", || {
        let listed = a.grpcurl(&a.suite.proxy, &[], &["steppe.v1.Proxy/ListListeners"]).ok();
        let status = a.steppe(&["status"]);
        if listed.contains("\"good:7/tcp\"") || status.code != 0 {
            Err(status.stdout + &listed)
        } else {
            Ok(())
        }
    });
    assert_eq!(reaches(&api, web), "web-1");
    assert_eq!(held.drain(), Vec::<String>::new(), "the connection was open all the time");
    cluster.assert_no_leak();
}

/// A resource, and what the reason of its rejection says; nothing when it makes sense.
type Sent = (Value, Option<&'static str>);

fn for_the_proxy() -> Vec<Sent> {
    let listener = |id: &str, changes: Value| {
        let mut listener = json!({
            "service": { "name": "good" }, "protocol": "PROTOCOL_TCP", "port": 7,
            "address": { "ip": "169.254.77.54", "port": 9007 },
        });
        let changes = changes.as_object().cloned().unwrap_or_default();
        listener.as_object_mut().expect("an object").extend(changes);
        json!({ "id": id, "listener": listener })
    };
    vec![
        (listener("good:7/tcp", json!({})), None),
        (listener("other:7", json!({})), Some("id: is `other:7` but the content says `good:7/tcp`")),
        (json!({ "id": "x" }), Some("kind: is missing")),
        (json!({ "id": "", "client": {} }), Some("id: 1 to 512 bytes are expected")),
        (
            listener("bad:7", json!({ "service": { "name": "b a d" } })),
            Some("listener.service.name: `b a d`"),
        ),
        (listener("bad:8", json!({ "port": 70_000 })), Some("listener.port: 70000 is no port number")),
        (listener("bad:9", json!({ "protocol": 9 })), Some("listener.protocol: is neither")),
        (
            listener("bad:10", json!({ "address": { "ip": "::1", "port": 9 } })),
            Some("listener.address.ip: `::1` is not an IPv4 address"),
        ),
        (
            listener("bad:11", json!({ "endpoints": [{ "address": { "ip": "10.0.0.1", "port": 1 } }] })),
            Some("listener.endpoints[0].weight: 1 to 100 is expected"),
        ),
        (
            json!({ "id": "web:80/tcp < nowhere", "client": { "listener": "web:80/tcp", "ip": "nowhere" } }),
            Some("client.ip: `nowhere` is not an IPv4 address"),
        ),
        (
            json!({ "id": "w1 > 247.0.0.9:80/tcp", "grant": {
                "workload": "w1", "vip": "247.0.0.9", "protocol": "PROTOCOL_TCP", "port": 80 } }),
            Some(""),
        ),
    ]
}

fn for_the_firewall() -> Vec<Sent> {
    let workload = |id: &str, changes: Value| {
        let mut workload = json!({
            "ip": "172.17.0.99", "mac": "02:42:ac:11:00:63", "bridge": "docker0", "portIfindex": 4_000_000,
        });
        let changes = changes.as_object().cloned().unwrap_or_default();
        workload.as_object_mut().expect("an object").extend(changes);
        json!({ "id": id, "workload": workload })
    };
    let grant = |workload: &str, vip: &str, port: u32| {
        json!({ "id": format!("{workload} > {vip}:{port}/tcp"), "grant": {
            "workload": workload, "vip": vip, "protocol": "PROTOCOL_TCP", "port": port } })
    };
    let service_port = |vip: &str, changes: Value| {
        let mut port = json!({
            "service": { "name": "sound" }, "vip": vip, "protocol": "PROTOCOL_TCP", "port": 80,
            "listener": { "ip": "169.254.77.54", "port": 9008 },
        });
        let changes = changes.as_object().cloned().unwrap_or_default();
        port.as_object_mut().expect("an object").extend(changes);
        json!({ "id": format!("{vip}:80/tcp"), "servicePort": port })
    };
    let vip = |vip: &str| json!({ "id": vip, "virtualIp": { "service": { "name": "sound" }, "vip": vip } });
    vec![
        (vip("247.200.0.1"), None),
        (vip("192.0.2.1"), Some("192.0.2.1")),
        (service_port("247.200.0.1", json!({})), None),
        (service_port("10.0.0.1", json!({})), Some("10.0.0.1")),
        (service_port("247.200.0.2", json!({ "vip": "nowhere" })), Some("service_port.vip: `nowhere`")),
        (service_port("247.200.0.3", json!({ "listener": null })), Some("endpoints: without a listener")),
        (
            service_port("247.200.0.4", json!({ "service": { "name": "" } })),
            Some("service_port.service.name"),
        ),
        (workload("w1", json!({})), Some("4000000")),
        (workload("w2", json!({ "mac": "nonsense" })), Some("workload.mac")),
        (
            workload("w3", json!({ "bridge": "much-too-long-for-one" })),
            Some("workload.bridge: 1 to 15 bytes"),
        ),
        (workload("w4", json!({ "portIfindex": 0 })), Some("workload.port_ifindex: 0 is no interface index")),
        (grant("nobody", "247.200.0.1", 80), Some("nobody")),
        (json!({ "id": "c", "client": { "listener": "x", "ip": "10.0.0.1" } }), Some("")),
    ]
}

/// Sends all of it on one stream: what makes no sense is rejected with its reason, the rest is not.
fn assert_rejected(host: &Host, daemon: &Daemon, service: &str, messages: &[Sent]) {
    let requests = messages
        .iter()
        .zip(2..)
        .map(|((resource, _), version)| json!({ "version": version, "upsert": resource }).to_string());
    let requests: Vec<String> = std::iter::once(SNAPSHOT.to_owned()).chain(requests).collect();
    let answer = host.grpcurl(daemon, &["-d", &requests.concat()], &[&format!("{service}/Sync")]);
    let responses: Vec<Value> = serde_json::Deserializer::from_str(&answer.clone().ok())
        .into_iter()
        .map(|response| response.expect("JSON"))
        .collect();
    let rejected: BTreeMap<&str, &str> = responses
        .iter()
        .filter_map(|response| response.get("reject"))
        .map(|reject| {
            (reject["id"].as_str().unwrap_or_default(), reject["reason"].as_str().unwrap_or_default())
        })
        .collect();
    for (resource, expected) in messages {
        let id = resource["id"].as_str().unwrap_or_default();
        match (rejected.get(id), expected) {
            (Some(reason), Some(expected)) => {
                assert!(reason.contains(expected) && !reason.is_empty(), "{id}: {reason}")
            }
            (None, None) => {}
            (reason, expected) => panic!("{id}: {reason:?}, not {expected:?}: {}", answer.stdout),
        }
    }
    let last = responses.last().map(|response| response["ack"]["version"].to_string());
    assert_eq!(last, Some(format!("\"{}\"", requests.len())), "all is settled");
}

/// What can't be read, or must not come, ends the stream and nothing else.
fn assert_breaches_end_the_stream(host: &Host, daemon: &Daemon, method: &str) {
    let code = |output: Output| {
        let code =
            output.stderr.lines().find_map(|line| line.trim().strip_prefix("Code: ")).map(str::to_owned);
        code.unwrap_or_else(|| panic!("no error: {} {}", output.stdout, output.stderr))
    };
    let upsert = r#"{"version":1,"upsert":{"id":"x"}}"#;
    let skips = [SNAPSHOT, r#"{"version":7,"snapshotEnd":{}}"#].concat();
    let empty = [SNAPSHOT, r#"{"version":2}"#].concat();
    for breach in [upsert, &skips, &empty] {
        assert_eq!(code(host.grpcurl(daemon, &["-d", breach], &[method])), "InvalidArgument", "{breach}");
    }
    // A message of five MiB, and one whose fields have other types than ours.
    let socket = socket(daemon);
    let grpcurl = grpcurl();
    let large = host.sh(&format!(
        r#"{{ printf '%s' '{{"version":1,"remove":"'; head -c 5242880 /dev/zero | tr '\0' x; printf '"}}'; }} |
           {} -unix -plaintext -d @ {socket} {method}"#,
        grpcurl.display()
    ));
    assert!(["OutOfRange", "ResourceExhausted"].contains(&code(large).as_str()));
    let (service, _) = method.rsplit_once('/').expect("SERVICE/METHOD");
    let name = service.rsplit('.').next().unwrap_or_default();
    let script = format!(
        r#"cat > /tmp/other.proto <<'END'
syntax = "proto3";
package steppe.v1;
message Odd {{ string version = 1; }}
service {name} {{ rpc Sync(stream Odd) returns (stream Odd); }}
END
{} -unix -plaintext -import-path /tmp -proto other.proto -d '{{"version":"one"}}' {socket} {method}"#,
        grpcurl.display()
    );
    assert_eq!(code(host.sh(&script)), "Internal");
}

fn assert_is_refused(output: Output, why: &str) {
    assert_ne!(output.code, 0, "{}", output.stdout);
    assert!(output.stderr.contains("PermissionDenied") && output.stderr.contains(why), "{}", output.stderr);
}

fn as_operator(host: &Host, daemon: &Daemon, request: &str, method: &str) -> Output {
    run_as(host, OPERATOR, daemon, request, method)
}

fn run_as(host: &Host, identity: Identity, daemon: &Daemon, request: &str, method: &str) -> Output {
    let words = ["-unix", "-plaintext", "-d", request, &socket(daemon), method];
    host.exec_as(identity, grpcurl().to_str().expect("text"), &words)
}

/// Of no group of ours. A dial that fails is tried again until its time is over.
fn as_stranger(host: &Host, daemon: &Daemon, method: &str) -> Output {
    let grpcurl = grpcurl();
    let own = ["--reuid=60799", "--regid=60799", "--clear-groups", grpcurl.to_str().expect("text")];
    let timeout = Duration::from_secs(1).as_secs().to_string();
    let words = ["-connect-timeout", &timeout, "-unix", "-plaintext", &socket(daemon), method];
    host.exec("setpriv", &[&own[..], &words].concat())
}

fn socket(daemon: &Daemon) -> String {
    format!("{RUN_DIR}/{}.sock", daemon.name())
}
