//! One asker's flood is its own.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType::A;
use steppe_api::v1::{QueryRequest, QuestionResult};

use crate::{
    client::{ask, at, heard, question, told},
    control::asker,
    net::{API, Namespace, Stopping, WORKER},
    process::Dns,
    upstream::Upstream,
};

#[tokio::test(flavor = "multi_thread")]
async fn under_the_flood_of_one_the_others_are_answered() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let _upstream = Upstream::echo(&net, Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(192, 0, 2, 1), 0);
    let dns = Dns::start(&net, &dir, &["--asker-rate", "1000"]);
    let mut control = dns.control().await;
    let resources = [asker(API, "", &[("web", "247.0.0.1")]), asker(WORKER, "", &[("web", "247.0.0.1")])];
    control.snapshot(&resources).await;
    dns.until_logged("listening");
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let flooding = net.udp(API);
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        scope.spawn(|| {
            let packets = [question("web.", A), question("www.example.", A)].map(|m| m.to_vec().unwrap());
            let start = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                // As much as the netfilter-agent lets through.
                if sent.load(Ordering::Relaxed) as f64 > start.elapsed().as_secs_f64() * 10_000.0 {
                    thread::yield_now();
                    continue;
                }
                for packet in &packets {
                    // What the host does not take is not sent.
                    if flooding.send_to(packet, at()).is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let mut slowest = Duration::ZERO;
        for i in 0..200 {
            let start = Instant::now();
            let name = format!("n{i}.example.");
            assert_eq!(ask(&net, WORKER, "web.", A), "NoError 247.0.0.1");
            assert_eq!(ask(&net, WORKER, &name, A), "NoError 192.0.2.1");
            slowest = slowest.max(start.elapsed());
        }
        drop(stopping);
        println!("{} sent by one, slowest answer to the other {slowest:?}", sent.load(Ordering::Relaxed));
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
    let limited = control.count(QuestionResult::Limited).await;
    assert!(limited > 0);
    // A second later it may ask again.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        thread::yield_now();
    }
    assert_eq!(ask(&net, API, "web.", A), "NoError 247.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_of_one_wait_for_a_resolver_and_no_more() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let upstream = Upstream::dead(&net, Ipv4Addr::new(10, 0, 1, 1));
    let dns = Dns::start(&net, &dir, &["--asker-forwards", "4", "--forwards", "6"]);
    let mut control = dns.control().await;
    control.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
    dns.until_logged("listening");
    let send = |from, name: &str| {
        let (socket, message) = (net.udp(from), question(name, A));
        socket.send_to(&message.to_vec().unwrap(), at()).unwrap();
        (socket, message)
    };
    let waiting: Vec<_> = (0..4).map(|i| send(API, &format!("n{i}.example."))).collect();
    // At once, and its own names all the same.
    let start = Instant::now();
    assert_eq!(ask(&net, API, "n5.example.", A), "ServFail");
    assert_eq!(ask(&net, API, "web.", A), "NoError 247.0.0.1");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(control.count(QuestionResult::Limited).await, 1);
    // Who asks on its behalf is told so.
    let request = QueryRequest { ip: API.to_string(), name: "n5.example".into(), r#type: String::new() };
    let told_people = control.client.query(request).await.unwrap().into_inner();
    assert_eq!((told_people.result(), &*told_people.rcode), (QuestionResult::Limited, "SERVFAIL"));
    // Another still may, until there are too many in all.
    let others: Vec<_> = (0..2).map(|i| send(WORKER, &format!("m{i}.example."))).collect();
    assert_eq!(ask(&net, WORKER, "m5.example.", A), "ServFail");
    assert!(start.elapsed() < Duration::from_secs(2));
    for (socket, message) in waiting.iter().chain(&others) {
        assert_eq!(told(&heard(socket, message)), "ServFail");
    }
    assert!(!upstream.names().contains(&"n5.example.".into()));
    // Those places are free again.
    let (socket, message) = send(API, "n6.example.");
    assert_eq!(told(&heard(&socket, &message)), "ServFail");
    assert!(upstream.names().contains(&"n6.example.".into()));
}
