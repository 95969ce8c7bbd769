use steppe_api::v1::{
    Endpoint, EndpointState, Grant, GrantState, GrantedPort, ListListenersResponse, ListServicePortsResponse,
    Listener, ListenerState, Protocol, ServicePort, SocketAddress, VipState,
};
use steppe_daemon::Process;
use steppe_explain::AwayKind;

use super::*;

fn web() -> ServiceKey {
    ServiceKey { user: "alice".into(), name: "web".into(), tag: String::new() }
}

fn redis() -> ServiceKey {
    ServiceKey { name: "redis".into(), ..web() }
}

fn agents(accepted_total: u64, refused_total: u64) -> Agents {
    let tcp = i32::from(Protocol::Tcp);
    let address = |last| Some(SocketAddress { ip: format!("10.0.0.{last}"), port: 24_011 });
    let listener = Listener { service: Some(web()), protocol: tcp, port: 80, ..Listener::default() };
    let endpoints = vec![
        EndpointState { address: address(5), ..EndpointState::default() },
        EndpointState { address: address(6), ejected_for_ms: 1, ..EndpointState::default() },
        EndpointState { address: address(7), draining: true, ..EndpointState::default() },
    ];
    let state =
        ListenerState { listener: Some(listener), accepted_total, endpoints, ..ListenerState::default() };
    let port = ServicePort {
        service: Some(web()),
        vip: "247.12.8.41".into(),
        protocol: tcp,
        port: 80,
        listener: None,
        endpoints: Vec::new(),
    };
    let vip = |service, vip: &str, refused_total| VipState {
        service: Some(service),
        vip: vip.into(),
        refused_total,
    };
    Agents {
        proxy: Ok(ListListenersResponse { listeners: vec![state] }),
        netfilter: Ok(ListServicePortsResponse {
            service_ports: vec![port],
            vips: vec![vip(web(), "247.12.8.41", 0), vip(redis(), "247.90.1.7", refused_total)],
        }),
    }
}

fn control() -> ListServicesResponse {
    let tcp = i32::from(Protocol::Tcp);
    let port = |number| GrantedPort { protocol: tcp, port: number, ..GrantedPort::default() };
    let instance =
        |healthy| Instance { healthy, address: Some(SocketAddress::default()), ..Instance::default() };
    let services = vec![
        Service {
            key: Some(web()),
            vip: "247.12.8.41".into(),
            ports: vec![port(9090), port(80)],
            instances: vec![instance(true), instance(true), instance(false)],
            grants: 4,
            empty_for_ms: 0,
            path: ServicePath::Proxy.into(),
            stand_in: false,
        },
        Service {
            key: Some(redis()),
            vip: "247.90.1.7".into(),
            ports: vec![port(0)],
            grants: 1,
            empty_for_ms: 40_000,
            ..Service::default()
        },
    ];
    ListServicesResponse { services }
}

#[test]
fn services_as_planned_with_totals() {
    let agents = agents(118, 12);
    let services =
        services(Ok(control()), &agents, Ok(ListGrantsResponse::default()), &Sampler::new(&agents));
    assert_eq!(
        services.render(Paint::Plain),
        "\
USER/SERVICE  VIP          PORTS    PATH   UP/ALL  GRANTS  CONNS  REFUSED
alice/redis   247.90.1.7   *        proxy  0/0     1       -      12       no instance for 40s
alice/web     247.12.8.41  80,9090  proxy  2/3     4       118    0
"
    );
}

#[test]
fn two_readings_make_rates() {
    let first = agents(100, 0);
    let mut sampler = Sampler::new(&first);
    sampler.again(&agents(100, 0));
    let services = services(Ok(control()), &first, Ok(ListGrantsResponse::default()), &sampler);
    let text = services.render(Paint::Plain);
    assert!(
        text.starts_with("USER/SERVICE  VIP          PORTS    PATH   UP/ALL  GRANTS  CONN/S  REFUSED/S\n"),
        "{text}"
    );
    assert!(text.contains("2/3     4       0       0\n"), "{text}");
}

#[test]
fn with_control_down_the_agents_know_what_is_in_force() {
    let away = Away {
        process: Process::Control,
        socket: "/run/steppe/control.sock".into(),
        kind: AwayKind::NoSocket,
    };
    let agents = agents(118, 0);
    let grant = |workload: &str, port| GrantState {
        grant: Some(Grant { workload: workload.into(), vip: "247.12.8.41".into(), port, ..Grant::default() }),
        ..GrantState::default()
    };
    let grants = ListGrantsResponse { grants: vec![grant("a", 80), grant("a", 81), grant("b", 80)] };
    let text = services(Err(away), &agents, Ok(grants), &Sampler::new(&agents)).render(Paint::Plain);
    assert!(text.contains("alice/web     247.12.8.41  80     proxy  1/2     2       118    0\n"), "{text}");
    assert!(
        text.contains("note: control is down: there is no /run/steppe/control.sock: start steppe-control"),
        "{text}"
    );
}

#[test]
fn what_never_sees_the_proxy_says_so_with_and_without_control() {
    let mut control = control();
    control.services[0].path = ServicePath::Kernel.into();
    let mut agents = agents(0, 0);
    agents.proxy = Ok(ListListenersResponse::default());
    let endpoint = |last| Endpoint {
        address: Some(SocketAddress { ip: format!("10.0.0.{last}"), port: 24_011 }),
        ..Endpoint::default()
    };
    agents.netfilter.as_mut().unwrap().service_ports[0].endpoints = vec![endpoint(5), endpoint(6)];
    let planned = services(Ok(control), &agents, Ok(ListGrantsResponse::default()), &Sampler::new(&agents));
    let text = planned.render(Paint::Plain);
    assert!(text.contains("alice/web     247.12.8.41  80,9090  kernel  2/3 "), "{text}");
    assert!(text.contains("*        proxy   0/0 "), "{text}");

    let away = Away { process: Process::Control, socket: "/run".into(), kind: AwayKind::NoSocket };
    let known = services(Err(away), &agents, Ok(ListGrantsResponse::default()), &Sampler::new(&agents));
    let text = known.render(Paint::Plain);
    assert!(text.contains("alice/web     247.12.8.41  80     kernel  2/2 "), "{text}");
}
