use steppe_api::v1::{
    Attachment, Grant, GrantState, Protocol, ServiceKey, VipState, Workload, WorkloadNames, WorkloadState,
};

use super::*;

#[test]
fn a_workload_with_two_addresses_and_a_malformed_grant() {
    let attachment = |ip: &str, bridge: &str, port: &str| Attachment {
        ip: ip.into(),
        bridge: bridge.into(),
        port_name: port.into(),
        ..Attachment::default()
    };
    let grant = |text: &str, problem: &str| GrantInfo {
        text: text.into(),
        problem: problem.into(),
        ..GrantInfo::default()
    };
    let api = WorkloadInfo {
        id: "0123456789abcdef".into(),
        name: "api".into(),
        user: "alice".into(),
        attachments: vec![attachment("172.17.0.5", "docker0", "veth1"), attachment("10.1.0.5", "br-1", "")],
        grants: vec![grant("web:80", ""), grant("redis", ""), grant("web:x", "no port")],
        ..WorkloadInfo::default()
    };
    let runsc = WorkloadInfo {
        name: "runsc".into(),
        user: "alice".into(),
        not_attached: "it runs already".into(),
        names: Some(WorkloadNames {
            resolver_problem: "its author chose".into(),
            ..WorkloadNames::default()
        }),
        ..WorkloadInfo::default()
    };
    let host = WorkloadInfo {
        name: "job".into(),
        id: "ff".into(),
        problem: "no address".into(),
        ..WorkloadInfo::default()
    };
    let workloads = Workloads::new([host, api, runsc].into_iter().map(planned), Vec::new());
    assert_eq!(
        workloads.render(Paint::Plain),
        "\
NAME   ID            USER   ADDRESS     BRIDGE   PORT   GRANTS        PROBLEM
api    0123456789ab  alice  172.17.0.5  docker0  veth1  web:80,redis  `web:x`: no port
                            10.1.0.5    br-1     -
job    ff            -      -           -        -      -             no address
runsc  -             alice  -           -        -      -             not on the network of alice: it runs already; it does not ask dns: its author chose
"
    );
}

#[test]
fn with_control_down_what_is_in_the_kernel() {
    let workload = Workload {
        ip: "172.17.0.5".into(),
        bridge: "docker0".into(),
        name: "api".into(),
        ..Workload::default()
    };
    let state = WorkloadState {
        id: "0123456789ab@docker0:7".into(),
        workload: Some(workload),
        port_name: "veth1".into(),
    };
    let service = ServiceKey { name: "web".into(), ..ServiceKey::default() };
    let grant = |port, vip: &str| GrantState {
        grant: Some(Grant {
            workload: state.id.clone(),
            vip: vip.into(),
            protocol: Protocol::Tcp.into(),
            port,
        }),
        ..GrantState::default()
    };
    let rows = in_force(
        &ListNetfilterWorkloadsResponse { workloads: vec![state.clone()] },
        &ListGrantsResponse { grants: vec![grant(80, "247.1.1.1"), grant(0, "247.1.1.2")] },
        &ListServicePortsResponse {
            vips: vec![VipState { service: Some(service), vip: "247.1.1.1".into(), refused_total: 0 }],
            ..ListServicePortsResponse::default()
        },
    );
    let text = Workloads::new(rows.into_iter(), vec!["control is down".into()]).render(Paint::Plain);
    assert!(
        text.contains("api   0123456789ab  -     172.17.0.5  docker0  veth1  web:80,247.1.1.2\n"),
        "{text}"
    );
    assert!(text.ends_with("note: control is down\n"), "{text}");
}
