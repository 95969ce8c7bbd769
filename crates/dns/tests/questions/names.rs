//! Names in force.

use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::{A, AAAA, PTR, SRV};
use rustix::process::Signal;
use steppe_api::v1::QuestionResult;

use crate::{
    client::{Tcp, ask, ask_message, heard, question, send_raw, sent, told, with_edns},
    control::{asker, member},
    net::{API, Namespace, STRANGER, WORKER},
    process::Dns,
};

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_decides_what_exists() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    let mut control = dns.control().await;
    let resources = [
        asker(API, "alice", &[("pg.bob", "247.0.0.2"), ("web", "247.0.0.1")]),
        asker(WORKER, "", &[("redis", "247.0.0.3")]),
        member("alice", "10.0.0.2", "api"),
    ];
    control.snapshot(&resources).await;
    dns.until_logged("listening");
    let mut strangers = vec![];
    for (name, kind, expected) in [
        ("web.steppe.internal.", A, "NoError 247.0.0.1"),
        ("WeB.steppe.INTERNAL.", A, "NoError 247.0.0.1"),
        ("pg.bob.steppe.internal.", A, "NoError 247.0.0.2"),
        ("web.steppe.internal.", AAAA, "NoError"),
        ("web.", A, "NoError 247.0.0.1"),
        ("api.", A, "NoError 10.0.0.2"),
        ("web.service.consul.", A, "NoError 247.0.0.1"),
        ("_web._tcp.steppe.internal.", SRV, "NoError 1 1 80 web.steppe.internal."),
        ("2.0.0.247.in-addr.arpa.", PTR, "NoError pg.bob.steppe.internal."),
        ("redis.steppe.internal.", A, "NXDomain"),
    ] {
        let message = question(name, kind);
        strangers.push((sent(&net, STRANGER, &message), message));
        assert_eq!(ask(&net, API, name, kind), expected, "{name}");
    }
    for (socket, message) in strangers {
        assert_eq!(told(&heard(&socket, &message)), "NXDomain", "{message}");
    }
    assert_eq!(ask(&net, WORKER, "redis.steppe.internal.", A), "NoError 247.0.0.3");
    assert_eq!(ask(&net, WORKER, "api.steppe.internal.", A), "NXDomain");

    control.remove(&resources[1]).await;
    assert_eq!(ask(&net, WORKER, "redis.steppe.internal.", A), "NXDomain");
    assert_eq!(control.upsert(&[asker(WORKER, "alice", &[])]).await, []);
    assert_eq!(ask(&net, WORKER, "api.steppe.internal.", A), "NoError 10.0.0.2");
    assert_eq!(control.count(QuestionResult::Service).await, 8);
    assert_eq!(control.count(QuestionResult::Member).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_another_agent_is_rejected_alone_and_all_is_kept_when_control_goes() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    let mut control = dns.control().await;
    let web = asker(API, "", &[("web", "247.0.0.1")]);
    control.snapshot(std::slice::from_ref(&web)).await;
    let vip = steppe_model::Resource::Takeover(steppe_model::Takeover);
    let rejections = control.upsert(&[vip, asker(WORKER, "", &[("web", "247.0.0.1")])]).await;
    assert!(rejections[0].1.contains("another agent"), "{rejections:?}");
    drop(control);
    dns.until_logged("control disconnected");
    assert_eq!(ask(&net, API, "web.", A), "NoError 247.0.0.1");
    assert_eq!(ask(&net, WORKER, "web.", A), "NoError 247.0.0.1");
    let mut control = dns.control().await;
    assert_eq!(control.inventory.len(), 2);
    // Until the snapshot ends nothing is taken away; then what it did not name is.
    control.snapshot(&[web]).await;
    assert_eq!(ask(&net, WORKER, "web.", A), "NXDomain");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_listens_once_it_knows_what_to_answer_and_without_control_it_denies_nothing() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    let packet = question("web.", A).to_vec().unwrap();
    assert_eq!(send_raw(&net, API, &packet), None);
    dns.until_logged("names of Steppe's fail");
    dns.until_logged("listening");
    assert_eq!(ask(&net, API, "web.", A), "ServFail");
    dns.control().await.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
    assert_eq!(ask(&net, API, "web.", A), "NoError 247.0.0.1");
    dns.signal(Signal::KILL);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_new_is_answered_when_control_has_told_of_it() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    let mut control = dns.control().await;
    control.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
    dns.until_logged("listening");
    let message = question("web.steppe.internal.", A);
    let mut tcp = Tcp::dial(&net, WORKER);
    tcp.send(&message);
    let socket = sent(&net, WORKER, &message);
    // Once this is answered, that has been taken.
    assert_eq!(ask(&net, API, "web.", A), "NoError 247.0.0.1");
    assert_eq!(control.upsert(&[asker(WORKER, "", &[("web", "247.0.0.1")])]).await, []);
    assert_eq!(told(&heard(&socket, &message)), "NoError 247.0.0.1");
    assert_eq!(told(&tcp.receive().unwrap()), "NoError 247.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stays_unknown_is_waited_for_once() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    dns.control().await.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
    dns.until_logged("listening");
    assert_eq!(ask(&net, STRANGER, "web.", A), "NXDomain");
    let start = Instant::now();
    for i in 0..10 {
        assert_eq!(ask(&net, STRANGER, &format!("n{i}.steppe.internal."), A), "NXDomain");
    }
    // Each would wait a second.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_gets_through_where_only_small_packets_do() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    net.ip("link set lo mtu 600");
    let dns = Dns::start(&net, &dir, &[]);
    let mut control = dns.control().await;
    let members = (0..60).map(|i| member("alice", &format!("10.0.1.{i}"), "many"));
    let resources: Vec<_> = members.chain([asker(API, "alice", &[])]).collect();
    control.snapshot(&resources).await;
    dns.until_logged("listening");
    for _ in 0..2 {
        let answer = ask_message(&net, API, &with_edns(question("many.", A), 1_232));
        assert_eq!((answer.answers.len(), answer.metadata.truncation), (60, false));
    }
}
