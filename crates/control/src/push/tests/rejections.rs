//! What an agent can't put in force.

use super::{super::*, *};

/// The proxy rejects the listener, and acknowledges everything.
fn reject_listener(bench: &mut Bench, id: &ResourceId) -> bool {
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    let is_news = bench.push.rejected(Proxy, version, id, "no");
    bench.push.acknowledged(Proxy, version);
    is_news
}

#[test]
fn what_is_rejected_is_tried_again() {
    let mut bench = Bench::new();
    bench.connect(Proxy);
    let (listener, requires) = service(0, 1).swap_remove(0);
    let id = listener.id();
    bench.desire(listener, requires);
    bench.send(Proxy);
    bench.push.rejected(Proxy, 2, &id, "address in use");
    bench.push.acknowledged(Proxy, 3);
    assert_eq!(bench.push.state(Proxy).condition(&id), Condition::Rejected("address in use".into()));
    assert!(bench.push.outgoing(Proxy, bench.now).is_empty());
    bench.push.retry_rejected();
    assert_eq!(bench.push.outgoing(Proxy, bench.now).len(), 1);
    bench.push.acknowledged(Proxy, 4);
    assert_eq!(bench.push.state(Proxy).condition(&id), Condition::InForce);
}

#[test]
fn what_is_rejected_time_and_again_is_news_once() {
    let mut bench = Bench::new();
    bench.connect(Proxy);
    let (listener, requires) = service(0, 1).swap_remove(0);
    let id = listener.id();
    bench.desire(listener, requires);
    assert!(reject_listener(&mut bench, &id));
    bench.push.retry_rejected();
    assert!(!reject_listener(&mut bench, &id));
    assert_eq!(bench.push.rejections(Proxy).len(), 1);
}

#[test]
fn a_rejected_change_leaves_the_former_content_in_force() {
    let mut bench = Bench::new();
    service(0, 1).into_iter().take(1).for_each(|(resource, requires)| bench.desire(resource, requires));
    bench.settle();
    let id = service(0, 1)[0].0.id();
    bench.desire(service(0, 2).swap_remove(0).0, vec![]);
    reject_listener(&mut bench, &id);
    // A rule that comes now has something to lead to.
    service(0, 2).into_iter().skip(1).for_each(|(resource, requires)| bench.desire(resource, requires));
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    bench.push.acknowledged(Proxy, version);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)).len(), 2);
}

#[test]
fn what_is_about_to_be_tried_again_can_be_removed() {
    let mut bench = Bench::new();
    bench.settle();
    let [listener, client, rule, _] = service(0, 1).try_into().unwrap();
    let rule_id = rule.0.id();
    let client_id = client.0.id();
    for (resource, requires) in [listener, client.clone(), rule.clone()] {
        bench.desire(resource, requires);
    }
    bench.settle();
    let Resource::ServicePort(mut changed) = rule.0.clone() else { unreachable!() };
    changed.listener = Some("169.254.77.54:19999".parse().unwrap());
    bench.desire(Resource::ServicePort(changed), rule.1);
    let version = bench.push.outgoing(NetfilterAgent, bench.now).last().unwrap().version;
    bench.push.rejected(NetfilterAgent, version, &rule_id, "no");
    bench.push.acknowledged(NetfilterAgent, version);
    // It can't be sent again now: what it requires is gone.
    bench.push.desire(Proxy, client_id, None);
    bench.push.outgoing(Proxy, bench.now);
    bench.push.retry_rejected();
    assert!(bench.push.outgoing(NetfilterAgent, bench.now).is_empty());
    bench.push.desire(NetfilterAgent, rule_id.clone(), None);
    let requests = bench.push.outgoing(NetfilterAgent, bench.now);
    assert_eq!(requests[0].message, Some(Message::Remove(rule_id.to_string())));
}

#[test]
fn a_rejected_removal_is_tried_again() {
    let mut bench = Bench::new();
    bench.desire_all(service(0, 1));
    bench.settle();
    let id = service(0, 1)[3].0.id();
    bench.push.desire(NetfilterAgent, id.clone(), None);
    let version = bench.push.outgoing(NetfilterAgent, bench.now)[0].version;
    bench.push.rejected(NetfilterAgent, version, &id, "the kernel is busy");
    bench.push.acknowledged(NetfilterAgent, version);
    assert_eq!(bench.push.rejections(NetfilterAgent).len(), 1);
    bench.push.retry_rejected();
    let requests = bench.push.outgoing(NetfilterAgent, bench.now);
    assert_eq!(requests[0].message, Some(Message::Remove(id.to_string())));
    bench.push.acknowledged(NetfilterAgent, requests[0].version);
    assert!(bench.push.rejections(NetfilterAgent).is_empty());
}

#[test]
fn a_rejected_client_holds_up_its_grant_and_not_its_port() {
    let mut bench = Bench::new();
    bench.settle();
    let [_, client, rule, grant] = service(0, 1).try_into().unwrap();
    bench.desire_all(service(0, 1));
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    bench.push.rejected(Proxy, version, &client.0.id(), "no");
    bench.push.acknowledged(Proxy, version);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)), [rule.0.id().to_string()]);
    bench.push.retry_rejected();
    let version = bench.push.outgoing(Proxy, bench.now)[0].version;
    bench.push.acknowledged(Proxy, version);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)), [grant.0.id().to_string()]);
}
