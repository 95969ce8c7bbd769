//! The kernel takes over from the proxy, and hands back.

use super::{super::*, *};

/// Everything of one service, in force.
fn served() -> Bench {
    let mut bench = Bench::new();
    bench.desire_all(service(0, 1));
    bench.settle();
    assert!(!bench.is_taken_over());
    bench
}

fn messages(requests: Vec<v1::SyncRequest>) -> Vec<Message> {
    requests.into_iter().filter_map(|request| request.message).collect()
}

#[test]
fn a_proxy_that_dies_is_taken_over_from_at_once_and_handed_back_to_when_its_snapshot_is_in_force() {
    let mut bench = served();
    bench.kill(Proxy);
    let sent = messages(bench.push.outgoing(NetfilterAgent, bench.now));
    assert_eq!(sent, [Message::Upsert((&takeover::resource()).into())], "and nothing else");
    bench.push.acknowledged(NetfilterAgent, u64::MAX);
    assert!(bench.push.is_taken_over());
    bench.connect(Proxy);
    bench.send(Proxy);
    assert_eq!(messages(bench.push.outgoing(NetfilterAgent, bench.now)), []);
    for _ in 0..10 {
        bench.step(Proxy);
    }
    bench.acknowledge(Proxy);
    let sent = messages(bench.push.outgoing(NetfilterAgent, bench.now));
    assert_eq!(sent, [Message::Remove("takeover".into())], "and nothing else");
}

#[test]
fn a_proxy_that_drains_is_relieved_once_the_kernel_has_taken_over() {
    let mut bench = served();
    bench.drain();
    bench.settle_one(Proxy);
    assert!(!bench.proxy.relieved, "the netfilter-agent has not taken over");
    bench.send(NetfilterAgent);
    bench.step(NetfilterAgent);
    bench.settle_one(Proxy);
    assert!(!bench.proxy.relieved, "it has not said so");
    bench.acknowledge(NetfilterAgent);
    bench.settle_one(Proxy);
    assert!(bench.proxy.relieved);
    // Until it ends, what was revoked is cut; its successor is handed back to.
    let [_, client, rule, grant] = service(0, 1).try_into().unwrap();
    let client = client.0.id();
    bench.push.desire(Proxy, client.clone(), None);
    bench.push.desire(NetfilterAgent, grant.0.id(), None);
    bench.desire(rule.0, vec![service(0, 1)[0].0.id()]);
    bench.desire_all(service(1, 1));
    let sent = messages(bench.push.outgoing(Proxy, bench.now));
    assert!(sent.contains(&Message::Remove(client.to_string())));
    assert_eq!(sent.len(), 2, "a client that goes and one that comes, no listener: {sent:?}");
    bench.settle();
    assert!(bench.is_taken_over());
    bench.kill(Proxy);
    bench.settle();
    assert!(!bench.is_taken_over());
}

#[test]
fn it_is_not_relieved_when_nobody_can_take_over() {
    let mut bench = served();
    bench.drain();
    let version = bench.push.outgoing(NetfilterAgent, bench.now)[0].version;
    assert!(bench.push.rejected(NetfilterAgent, version, &takeover::id(), "unknown"));
    bench.push.acknowledged(NetfilterAgent, version);
    assert_eq!(bench.push.outgoing(Proxy, bench.now), []);
    // Later it can, and is cut off before it has said so.
    bench.push.retry_rejected();
    assert_eq!(bench.push.outgoing(NetfilterAgent, bench.now).len(), 1);
    bench.cut_off(NetfilterAgent);
    assert_eq!(bench.push.outgoing(Proxy, bench.now), []);
}

#[test]
fn a_drain_is_said_again_on_the_next_stream_and_answered_there() {
    let mut bench = served();
    bench.drain();
    bench.cut_off(Proxy);
    bench.settle_one(NetfilterAgent);
    assert!(!bench.proxy.relieved);
    bench.connect(Proxy);
    bench.settle_one(Proxy);
    bench.settle_one(NetfilterAgent);
    assert!(bench.proxy.relieved && bench.is_taken_over());
}

#[test]
fn new_services_do_not_wait_for_a_proxy_that_is_away() {
    let mut bench = served();
    bench.kill(Proxy);
    bench.desire_all(service(1, 1));
    bench.settle_one(NetfilterAgent);
    let [_, _, rule, grant] = service(1, 1).try_into().unwrap();
    assert!([rule, grant].iter().all(|(resource, _)| bench.netfilter.in_force.contains_key(&resource.id())));
    assert_eq!(bench.push.waits_for(NetfilterAgent, &service(1, 1)[2].0.id()), None);
}

#[test]
fn what_came_while_the_proxy_was_told_its_snapshot_holds_up_the_hand_back() {
    let mut bench = served();
    bench.kill(Proxy);
    bench.settle_one(NetfilterAgent);
    bench.connect(Proxy);
    bench.send(Proxy);
    bench.desire_all(service(1, 1));
    bench.settle_one(NetfilterAgent);
    // The snapshot alone is settled.
    while !bench.proxy.arrived.is_empty() {
        bench.step(Proxy);
    }
    bench.acknowledge(Proxy);
    assert_eq!(*bench.push.state(Proxy).link().0, Link::Live);
    bench.settle_one(NetfilterAgent);
    assert!(bench.is_taken_over());
    // From now on new rules wait again, or there might be no end.
    bench.desire_all(service(2, 1));
    bench.settle_one(NetfilterAgent);
    assert!(!bench.netfilter.in_force.contains_key(&service(2, 1)[2].0.id()));
    bench.settle();
    assert!(!bench.is_taken_over());
    assert_eq!(bench.netfilter.in_force.len(), 6);
}

#[test]
fn control_that_starts_anew_takes_over_from_no_living_proxy() {
    let mut bench = served();
    bench.restart_control();
    bench.desire_all(service(0, 1));
    bench.connect(Proxy);
    bench.connect(NetfilterAgent);
    let sent = messages(bench.push.outgoing(NetfilterAgent, bench.now));
    assert!(!sent.contains(&Message::Upsert((&takeover::resource()).into())), "{sent:?}");
}

#[test]
fn control_that_starts_anew_keeps_a_takeover_until_the_proxy_is_ready() {
    for is_back in [false, true] {
        let mut bench = served();
        bench.kill(Proxy);
        bench.settle_one(NetfilterAgent);
        bench.restart_control();
        bench.desire_all(service(0, 1));
        if is_back {
            bench.connect(Proxy);
        }
        bench.connect(NetfilterAgent);
        bench.settle_one(NetfilterAgent);
        assert!(bench.is_taken_over());
        bench.settle();
        assert!(!bench.is_taken_over());
    }
}

#[test]
fn a_proxy_that_died_while_control_was_away_is_taken_over_from() {
    let mut bench = served();
    bench.restart_control();
    bench.kill(Proxy);
    bench.desire_all(service(0, 1));
    bench.connect(NetfilterAgent);
    bench.settle_one(NetfilterAgent);
    assert!(bench.is_taken_over());
    assert_eq!(bench.netfilter.in_force.len(), 3);
}

#[test]
fn a_listener_that_the_proxy_rejects_keeps_no_other_from_being_handed_back() {
    let mut bench = served();
    bench.kill(Proxy);
    bench.settle_one(NetfilterAgent);
    bench.connect(Proxy);
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    bench.push.rejected(Proxy, version, &service(0, 1)[0].0.id(), "address in use");
    bench.push.acknowledged(Proxy, version);
    let sent = messages(bench.push.outgoing(NetfilterAgent, bench.now));
    assert_eq!(sent, [Message::Remove("takeover".into())]);
}

#[test]
fn a_proxy_that_dies_and_comes_back_between_two_looks_is_not_handed_back_to_before_it_is_ready() {
    let mut bench = served();
    bench.kill(Proxy);
    bench.settle_one(NetfilterAgent);
    bench.connect(Proxy);
    bench.settle_one(Proxy);
    bench.kill(Proxy);
    bench.connect(Proxy);
    bench.settle_one(NetfilterAgent);
    assert!(bench.is_taken_over());
}

#[test]
fn what_waited_for_a_proxy_that_dies_before_the_hand_back_does_not_wait_on() {
    let mut bench = served();
    bench.kill(Proxy);
    bench.settle_one(NetfilterAgent);
    bench.connect(Proxy);
    bench.settle_one(Proxy);
    bench.desire_all(service(1, 1));
    // The hand-back is decided, and not yet sent.
    bench.send(Proxy);
    bench.kill(Proxy);
    bench.settle_one(NetfilterAgent);
    assert!(bench.is_taken_over());
    assert_eq!(bench.netfilter.in_force.len(), 5);
}

#[test]
fn switched_off_it_never_happens() {
    let mut bench = Bench::with_takeover(false);
    bench.desire_all(service(0, 1));
    bench.settle();
    bench.kill(Proxy);
    bench.desire_all(service(1, 1));
    assert_eq!(bench.push.outgoing(NetfilterAgent, bench.now), []);
    bench.settle();
    assert_eq!(bench.netfilter.in_force.len(), 4);
}
