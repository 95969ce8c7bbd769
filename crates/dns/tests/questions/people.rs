//! What people ask.

use std::net::Ipv4Addr;

use hickory_proto::rr::RecordType::A;
use steppe_api::v1::{self, QueryRequest, QueryResponse, QuestionResult};
use tonic::Code;

use crate::{
    client::ask,
    control::{Control, asker, member, soon},
    net::{API, Namespace, STRANGER},
    process::Dns,
    upstream::Upstream,
};

async fn query(control: &mut Control, ip: Ipv4Addr, name: &str, kind: &str) -> QueryResponse {
    let request = QueryRequest { ip: ip.to_string(), name: name.into(), r#type: kind.into() };
    soon(control.client.query(request)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_see_what_a_workload_is_told_and_why() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let _upstream = Upstream::echo(&net, Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(192, 0, 2, 1), 60);
    let dns = Dns::start(&net, &dir, &[]);
    let mut control = dns.control().await;
    let resources = [asker(API, "alice", &[("web", "247.0.0.1")]), member("alice", "10.0.0.2", "api")];
    control.snapshot(&resources).await;
    dns.until_logged("listening");
    for (ip, name, kind, rcode, records, result, reason) in [
        (
            API,
            "web",
            "",
            "NOERROR",
            &["web. 5 IN A 247.0.0.1"][..],
            QuestionResult::Service,
            "`web` is a service",
        ),
        (API, "api", "A", "NOERROR", &["api. 5 IN A 10.0.0.2"], QuestionResult::Member, "network of `alice`"),
        (API, "web", "aaaa", "NOERROR", &[], QuestionResult::NoName, "no record of that type"),
        (API, "nobody", "A", "NXDOMAIN", &[], QuestionResult::NoName, "no service of that name"),
        (STRANGER, "web", "A", "NXDOMAIN", &[], QuestionResult::NoName, "knows nobody who asks"),
        (
            API,
            "www.example",
            "A",
            "NOERROR",
            &["www.example. 60 IN A 192.0.2.1"],
            QuestionResult::Forwarded,
            "a resolver",
        ),
        (
            API,
            "www.example",
            "A",
            "NOERROR",
            &["www.example. 60 IN A 192.0.2.1"],
            QuestionResult::Cached,
            "not long ago",
        ),
    ] {
        let told = query(&mut control, ip, name, kind).await;
        assert_eq!(
            (told.rcode.as_str(), &told.records[..], told.result()),
            (rcode, &records.iter().map(ToString::to_string).collect::<Vec<_>>()[..], result)
        );
        assert!(told.reason.contains(reason), "{}", told.reason);
    }
    for (ip, name, kind) in [("here", "web", "A"), ("10.0.0.2", "a..b", "A"), ("10.0.0.2", "web", "nonsense")]
    {
        let request = QueryRequest { ip: ip.into(), name: name.into(), r#type: kind.into() };
        assert_eq!(control.client.query(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // None of these was anybody's.
    assert!(control.status().await.results.iter().all(|count| count.total == 0));
    let status = control.status().await;
    assert_eq!((status.askers, status.members, status.listening), (1, 1, vec!["169.254.77.53:53".into()]));
    let askers = control.client.list_askers(v1::ListAskersRequest {}).await.unwrap().into_inner().askers;
    assert_eq!((askers.len(), askers[0].workload.as_str()), (1, "workload-2"));
    let members = control.client.list_members(v1::ListMembersRequest {}).await.unwrap().into_inner().members;
    assert_eq!(members[0].names, ["api"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_watch_questions() {
    let (net, dir) = (Namespace::new(), tempfile::tempdir().unwrap());
    let dns = Dns::start(&net, &dir, &[]);
    let mut control = dns.control().await;
    control.snapshot(&[asker(API, "", &[("web", "247.0.0.1")])]).await;
    dns.until_logged("listening");
    let request = v1::WatchQuestionsRequest { ip: API.to_string() };
    let mut events = control.client.watch_questions(request).await.unwrap().into_inner();
    ask(&net, STRANGER, "web.", A);
    ask(&net, API, "Web.", A);
    let event = soon(events.message()).await.unwrap().unwrap();
    assert_eq!((event.ip.as_str(), event.workload.as_str()), ("10.0.0.2", "workload-2"));
    assert_eq!((event.name.as_str(), event.r#type.as_str(), event.rcode.as_str()), ("Web.", "A", "NOERROR"));
    assert_eq!(event.result(), QuestionResult::Service);
}
