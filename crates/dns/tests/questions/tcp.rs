//! Over TCP.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown},
};

use hickory_proto::rr::RecordType::A;

use crate::{
    client::{Tcp, ask_message, question, told, with_edns},
    control::{asker, member},
    net::{API, Namespace, WORKER},
    process::Dns,
    upstream::Upstream,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_over_udp_is_told_over_tcp() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    let mut resources = vec![asker(API, "alice", &[])];
    resources.extend((0..200).map(|i| member("alice", &format!("10.0.2.{i}"), "many")));
    dns.control().await.snapshot(&resources).await;
    dns.until_logged("listening");
    let asking = question("many.", A);
    for message in [asking.clone(), with_edns(asking.clone(), 4_096)] {
        let cut = ask_message(&net, API, &message);
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(cut.edns.is_some(), message.edns.is_some());
        assert_eq!(Tcp::dial(&net, API).ask(&message).answers.len(), 200);
    }
    // As many as fit into what the asker says that it takes.
    let resources: Vec<_> = resources.into_iter().take(1 + 40).collect();
    dns.control().await.snapshot(&resources).await;
    assert!(ask_message(&net, API, &asking).metadata.truncation);
    assert_eq!(ask_message(&net, API, &with_edns(asking, 1_232)).answers.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_one_connection_are_answered_as_soon_as_they_can_be() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let upstream = Upstream::echo(&net, Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(192, 0, 2, 1), 60);
    let dns = Dns::start(&net, &dir, &[]);
    dns.control().await.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
    dns.until_logged("listening");
    let mut tcp = Tcp::dial(&net, API);
    let (far, near) = (question("far.example.", A), question("web.", A));
    tcp.send(&far);
    tcp.send(&near);
    // In whatever order.
    let mut answers = [tcp.receive().unwrap(), tcp.receive().unwrap()];
    answers.sort_by_key(|answer| answer.metadata.id != far.metadata.id);
    assert_eq!(told(&answers[0]), "NoError 192.0.2.1");
    assert_eq!(told(&answers[1]), "NoError 247.0.0.1");
    // Half closed: what was asked is answered.
    tcp.send(&near);
    tcp.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told(&tcp.receive().unwrap()), "NoError 247.0.0.1");
    assert_eq!(tcp.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    drop(upstream);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_asker_has_so_many_connections_and_the_other_still_gets_one() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    let resources = [asker(API, "", &[("web", "247.0.0.1")]), asker(WORKER, "", &[("web", "247.0.0.1")])];
    dns.control().await.snapshot(&resources).await;
    dns.until_logged("listening");
    let mut open: Vec<_> = (0..32).map(|_| Tcp::dial(&net, API)).collect();
    assert!(open.iter_mut().all(|tcp| told(&tcp.ask(&question("web.", A))) == "NoError 247.0.0.1"));
    let mut beyond = Tcp::dial(&net, API);
    let ended = beyond
        .0
        .read(&mut [0; 1])
        .map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |n| n == 0);
    assert!(ended);
    assert_eq!(told(&Tcp::dial(&net, WORKER).ask(&question("web.", A))), "NoError 247.0.0.1");
    // Half a question takes a place for a while, and nothing else.
    open[0].0.write_all(&[0]).unwrap();
    assert_eq!(told(&open[1].ask(&question("web.", A))), "NoError 247.0.0.1");
}
