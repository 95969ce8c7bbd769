//! What makes no sense is refused, alone, with a reason.

use steppe_api::v1::{Protocol, resource::Kind};

use crate::{
    agent::{self, Agent},
    control::{Control, block_on, client, grant, grant_to, service_port, virtual_ip, workload},
    net::Host,
};

#[test]
fn malformed_resources_are_rejected_alone() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let container = host.container(2);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&container).await;
        let good = workload(&host, &container);
        let mut gone = good.clone();
        gone.id = "gone@br0".into();
        let mut elsewhere = good.clone();
        elsewhere.id = "elsewhere@br0".into();
        let mut blank = good.clone();
        blank.id = "a b".into();
        if let (Some(Kind::Workload(gone)), Some(Kind::Workload(elsewhere))) =
            (&mut gone.kind, &mut elsewhere.kind)
        {
            gone.port_ifindex = 999_999;
            elsewhere.bridge = "docker0".into();
        }
        let mut abroad = service_port(Protocol::Tcp, 81, 1);
        if let Some(Kind::ServicePort(port)) = &mut abroad.kind {
            port.listener.as_mut().unwrap().ip = "10.0.0.1".into();
        }
        let mut wrong = grant(&container, Protocol::Tcp, 82);
        if let Some(Kind::Grant(grant)) = &mut wrong.kind {
            grant.vip = "not an address".into();
        }
        let outside = grant_to(&good.id, "248.0.0.1".parse().unwrap(), Protocol::Tcp, 80);
        let unknown = grant_to("nobody@br0", "247.1.2.3".parse().unwrap(), Protocol::Tcp, 80);
        let nonsense = vec![
            (gone, "port_ifindex: 999999 is no port of a bridge now"),
            (elsewhere, "belongs to `br0` and not to `docker0`"),
            (blank, "without blanks"),
            (abroad, "listener: 10.0.0.1:1 is not on the listener address 169.254.77.54"),
            (wrong, "grant.vip: `not an address` is not an IPv4 address"),
            (outside, "vip: 248.0.0.1 is outside 247.0.0.0/8"),
            (unknown, "workload: `nobody@br0` is not in force"),
        ];
        let port = service_port(Protocol::Tcp, 80, 1);
        let sense = [good, virtual_ip(), port, grant(&container, Protocol::Tcp, 80)];
        let mut mixed: Vec<_> = sense.to_vec();
        mixed.extend(nonsense.iter().map(|(resource, _)| resource.clone()));
        mixed.push(grant(&container, Protocol::Udp, 53));
        let rejected = control.snapshot(mixed).await;
        assert_eq!(rejected.len(), nonsense.len(), "{rejected:?}");
        for (resource, reason) in &nonsense {
            let reject = rejected.iter().find(|reject| reject.id == resource.id).unwrap();
            assert!(reject.reason.contains(reason), "{reject:?}");
        }
        assert_eq!(control.grants().await.len(), 2);
        assert_eq!(control.vips().await.len(), 1);
    });
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anything_is_bound() {
    let host = Host::new();
    for flags in [
        &["--service-cidr", "247.0.0.1/8"][..],
        &["--service-cidr", "nonsense"],
        &["--listener-address", "127.0.0.1"],
        &["--listener-address", "247.0.0.1"],
        &["--table-owner", "me"],
        &["--nonsense"],
    ] {
        let output = agent::run(&host, flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error: "), "{flags:?}");
    }
    assert_eq!(host.net.nft("list ruleset"), "");
    let help = String::from_utf8(agent::run(&host, &["--help"]).stdout).unwrap();
    assert!(help.contains("Linux 5.10"), "{help}");
}

#[test]
fn a_missing_capability_is_named() {
    let host = Host::new();
    let output = agent::run_unprivileged(&host);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("CAP_NET_ADMIN is missing") && text.contains("setcap"), "{text}");
}

#[test]
fn another_uid_may_not_give_orders() {
    let host = Host::new();
    let agent = Agent::start(&host, &["--control-uid", "65533"]);
    block_on(async {
        let mut client = client(&agent).await;
        let refused = client.sync(tokio_stream::empty()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    });
}
