//! What is not ours.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::ResponseCode,
    rr::RecordType::{A, TXT},
};
use steppe_api::v1::QuestionResult;

use crate::{
    client::{Tcp, ask, ask_message, heard, question, send_raw, told, with_edns},
    control::{Control, asker},
    net::{API, DEADLINE, Namespace, STRANGER, WORKER},
    process::Dns,
    upstream::{Asked, Upstream, addressed, bare},
};

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const BOTH: [&str; 4] = ["--upstream", "10.0.1.1", "--upstream", "10.0.1.2"];

struct World {
    net: Namespace,
    _dir: tempfile::TempDir,
    dns: Dns,
    control: Control,
}

impl World {
    async fn new(flags: &[&str]) -> Self {
        let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
        let dns = Dns::start(&net, &dir, flags);
        let mut control = dns.control().await;
        control.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
        dns.until_logged("listening");
        Self { net, _dir: dir, dns, control }
    }

    fn ask(&self, name: &str) -> (String, Duration) {
        let start = Instant::now();
        let told = ask(&self.net, API, name, A);
        (told, start.elapsed())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_once_and_kept_for_its_time() {
    let mut world = World::new(&[]).await;
    let upstream = Upstream::echo(&world.net, FIRST, FAR, 60);
    for (from, name) in [(API, "www.example."), (WORKER, "WWW.Example."), (STRANGER, "www.example.")] {
        let message = question(name, A);
        let answer = ask_message(&world.net, from, &message);
        assert_eq!(told(&answer), "NoError 192.0.2.1");
        assert!(answer.answers[0].ttl <= 60 && answer.metadata.recursion_available);
        // EDNS is between neighbours.
        assert!(answer.edns.is_none());
        assert!(ask_message(&world.net, from, &with_edns(message, 4_096)).edns.is_some());
    }
    assert_eq!(upstream.names(), ["www.example."]);
    assert!(upstream.asked()[0].message.edns.is_some());
    assert_eq!(world.control.count(QuestionResult::Forwarded).await, 1);
    assert_eq!(world.control.count(QuestionResult::Cached).await, 5);
    let status = world.control.status().await;
    assert_eq!((status.cached, status.cache_limit), (1, 10_000));
    // Neither of these leaves the host.
    for name in ["nobody.steppe.internal.", "nobody.", "nobody.service.consul.", "web."] {
        ask(&world.net, STRANGER, name, A);
    }
    assert_eq!(upstream.names(), ["www.example."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_the_same_at_the_same_time_waits_for_one_answer() {
    let mut world = World::new(&[]).await;
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::start(&world.net, FIRST, move |asked, send| {
        held.lock().unwrap().recv().unwrap();
        send(&addressed(&asked.message, &[FAR], 0));
    });
    let questions: Vec<_> = (0..20)
        .map(|i| {
            let message = question(if i % 2 == 0 { "www.example." } else { "WWW.EXAMPLE." }, A);
            let socket = world.net.udp(if i < 10 { API } else { WORKER });
            socket.send_to(&message.to_vec().unwrap(), crate::client::at()).unwrap();
            (socket, message)
        })
        .collect();
    // They are taken in order: when this is answered, so have been all before. And it does not wait for them.
    assert_eq!(world.ask("web.").0, "NoError 247.0.0.1");
    release.send(()).unwrap();
    for (socket, message) in &questions {
        assert_eq!(told(&heard(socket, message)), "NoError 192.0.2.1");
    }
    assert_eq!(upstream.asked().len(), 1);
    assert_eq!(world.control.count(QuestionResult::Forwarded).await, 20);
    // It said that it is not to be kept.
    release.send(()).unwrap();
    world.ask("www.example.");
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_resolver_costs_less_than_a_second_and_then_nothing() {
    let mut world = World::new(&BOTH).await;
    let dead = Upstream::dead(&world.net, FIRST);
    let alive = Upstream::echo(&world.net, SECOND, FAR, 60);
    let (told, took) = world.ask("one.example.");
    assert_eq!(told, "NoError 192.0.2.1");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (told, took) = world.ask("two.example.");
    assert_eq!(told, "NoError 192.0.2.1");
    assert!(took < Duration::from_secs(1), "{took:?}");
    // It was not waited for: it was not even asked.
    assert_eq!(dead.names(), ["one.example."]);
    assert_eq!(alive.names(), ["one.example.", "two.example."]);
    let upstreams = world.control.status().await.upstreams;
    assert!(upstreams[0].failed_ms_ago > 0 && upstreams[1].failed_ms_ago == 0, "{upstreams:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_resolver_answers_that_is_said_in_time() {
    let mut world = World::new(&BOTH).await;
    // Nobody listens there: the host says so.
    let (told, took) = world.ask("gone.example.");
    assert_eq!(told, "ServFail");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let dead = [Upstream::dead(&world.net, FIRST), Upstream::dead(&world.net, SECOND)];
    let (told, took) = world.ask("dead.example.");
    assert_eq!(told, "ServFail");
    assert!((3_500..7_000).contains(&took.as_millis()), "{took:?}");
    // Each was asked again.
    assert!(dead.iter().all(|upstream| upstream.asked().len() >= 3));
    assert_eq!(world.control.count(QuestionResult::Failed).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_resolver_may_know_better() {
    let world = World::new(&BOTH).await;
    let code = |code| {
        move |asked: &Asked, send: &dyn Fn(&hickory_proto::op::Message)| {
            let mut answer = bare(&asked.message);
            answer.metadata.response_code = code;
            send(&answer);
        }
    };
    let failing = Upstream::start(&world.net, FIRST, code(ResponseCode::ServFail));
    let second = Upstream::echo(&world.net, SECOND, FAR, 0);
    assert_eq!(world.ask("one.example.").0, "NoError 192.0.2.1");
    drop((failing, second));
    let _refusing = Upstream::start(&world.net, FIRST, code(ResponseCode::Refused));
    let failing = Upstream::start(&world.net, SECOND, code(ResponseCode::ServFail));
    assert!(["ServFail", "Refused"].contains(&world.ask("two.example.").0.as_str()));
    drop(failing);
    // The second says first that there is nothing; the first knows.
    drop(_refusing);
    let _slow = Upstream::start(&world.net, FIRST, |asked, send| {
        thread::park_timeout(Duration::from_millis(450));
        send(&addressed(&asked.message, &[FAR], 0));
    });
    let hasty = Upstream::start(&world.net, SECOND, code(ResponseCode::NXDomain));
    assert_eq!(world.ask("inner.example.").0, "NoError 192.0.2.1");
    assert_eq!(hasty.names(), ["inner.example."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_was_slow_once_still_knows_more() {
    let mut world = World::new(&BOTH).await;
    let (hold, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let _first = Upstream::start(&world.net, FIRST, move |asked, send| {
        // Until the other end is dropped.
        let _ = held.lock().unwrap().recv();
        send(&addressed(&asked.message, &[FAR], 0));
    });
    // Dropped before the resolver, which waits for that, also when the test fails.
    let hold = hold;
    let _second = Upstream::start(&world.net, SECOND, |asked, send| {
        let mut answer = addressed(&asked.message, &[OTHER], 0);
        if asked.message.queries[0].name().to_string().starts_with("inner") {
            answer = bare(&asked.message);
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        send(&answer);
    });
    assert_eq!(world.ask("slow.example.").0, "NoError 192.0.2.2");
    assert!(world.control.status().await.upstreams[0].failed_ms_ago > 0);
    // It answers after all, though nobody waits for that.
    drop(hold);
    let start = Instant::now();
    while world.control.status().await.upstreams[0].failed_ms_ago > 0 {
        assert!(start.elapsed() < DEADLINE, "it was not heard");
    }
    assert_eq!(world.ask("inner.example.").0, "NoError 192.0.2.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_resolver_is_not_waited_for_when_the_others_have_failed() {
    let world = World::new(&BOTH).await;
    let _failing = Upstream::start(&world.net, FIRST, |asked, send| {
        let mut answer = bare(&asked.message);
        answer.metadata.response_code = ResponseCode::ServFail;
        send(&answer);
    });
    let dead = Upstream::dead(&world.net, SECOND);
    // That it is dead is found out once.
    assert_eq!(world.ask("one.example.").0, "ServFail");
    let (told, took) = world.ask("two.example.");
    assert_eq!(told, "ServFail");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(dead.names().contains(&"two.example.".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_is_fetched_over_tcp() {
    let world = World::new(&[]).await;
    let all: Vec<_> = (0..100).map(|i| Ipv4Addr::new(192, 0, 2, i)).collect();
    let upstream = Upstream::start(&world.net, FIRST, move |asked, send| {
        if asked.tcp {
            send(&addressed(&asked.message, &all, 60));
        } else {
            let mut cut = bare(&asked.message);
            cut.metadata.truncation = true;
            send(&cut);
        }
    });
    let message = question("many.example.", A);
    let cut = ask_message(&world.net, API, &message);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(Tcp::dial(&world.net, API).ask(&message).answers.len(), 100);
    assert_eq!(upstream.asked().iter().map(|asked| asked.tcp).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_answer_is_passed_over() {
    let world = World::new(&[]).await;
    let upstream = Upstream::start(&world.net, FIRST, |asked, send| {
        let forged = addressed(&asked.message, &[OTHER], 60);
        let mut other_id = forged.clone();
        other_id.metadata.id ^= 1;
        let mut other_name = forged.clone();
        other_name.queries[0].set_name("other.example.".parse().unwrap());
        let mut other_type = forged.clone();
        other_type.queries[0].set_query_type(TXT);
        let mut no_answer = forged;
        no_answer.metadata.message_type = hickory_proto::op::MessageType::Query;
        [other_id, other_name, other_type, no_answer].iter().for_each(send);
        send(&addressed(&asked.message, &[FAR], 60));
    });
    for i in 0..40 {
        assert_eq!(world.ask(&format!("n{i}.example.")).0, "NoError 192.0.2.1");
    }
    // Nobody can guess which port and number an answer must have.
    let asked = upstream.asked();
    let ports: HashSet<_> = asked.iter().map(|asked| asked.from.port()).collect();
    let ids: HashSet<_> = asked.iter().map(|asked| asked.message.metadata.id).collect();
    assert!(ports.len() > 35 && ids.len() > 35, "{} {}", ports.len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_does_not_know_edns_is_asked_without() {
    let world = World::new(&[]).await;
    let upstream = Upstream::start(&world.net, FIRST, |asked, send| {
        let mut answer = addressed(&asked.message, &[FAR], 60);
        if asked.message.edns.is_some() {
            answer = bare(&asked.message);
            answer.metadata.response_code = ResponseCode::FormErr;
        }
        send(&answer);
    });
    assert_eq!(world.ask("www.example.").0, "NoError 192.0.2.1");
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_resolvers_are_read_again_when_they_change() {
    let etc = tempfile::tempdir().unwrap();
    let file = etc.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 10.0.1.1\nnameserver 169.254.77.53\n").unwrap();
    let flag = format!("--resolv-conf={}", file.display());
    let mut world = World::new(&[&flag]).await;
    let _first = Upstream::echo(&world.net, FIRST, FAR, 60);
    let _second = Upstream::echo(&world.net, SECOND, OTHER, 60);
    assert_eq!(world.ask("www.example.").0, "NoError 192.0.2.1");
    world.dns.until_logged("it names dns itself");
    std::fs::remove_file(&file).unwrap();
    world.dns.until_logged("the resolvers stay as they are");
    assert_eq!(world.ask("www.example.").0, "NoError 192.0.2.1");
    std::fs::write(etc.path().join("new"), "nameserver 10.0.1.2\n").unwrap();
    std::fs::rename(etc.path().join("new"), &file).unwrap();
    world.dns.until_logged("upstreams=\"10.0.1.2:53\"");
    // What the others said, or that there is no such name, is not kept.
    assert_eq!(world.ask("www.example.").0, "NoError 192.0.2.2");
    let upstreams = world.control.status().await.upstreams;
    assert_eq!(upstreams[0].address.as_ref().unwrap().ip, "10.0.1.2");
}

/// A resolver that asks whoever asks it, from an address that is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_comes_back_goes_no_further() {
    let world = World::new(&[]).await;
    let (back, forwards) = mpsc::channel::<Vec<u8>>();
    let upstream = Upstream::start(&world.net, FIRST, move |asked, _| {
        back.send(asked.message.to_vec().unwrap()).unwrap();
    });
    let sender = world.net.udp(SECOND);
    let forwarding = thread::spawn(move || {
        let to: SocketAddr = crate::client::at();
        forwards.iter().for_each(|packet| {
            sender.send_to(&packet, to).unwrap();
        });
    });
    let (told, took) = world.ask("round.example.");
    assert_eq!(told, "ServFail");
    assert!(took < Duration::from_secs(7), "{took:?}");
    // As often as any question that is not answered.
    assert!(upstream.asked().len() <= 5, "{}", upstream.asked().len());
    assert_eq!(world.ask("web.").0, "NoError 247.0.0.1");
    drop(upstream);
    forwarding.join().unwrap();
    assert!(send_raw(&world.net, API, b"").is_none());
}
