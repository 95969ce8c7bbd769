//! Other hosts' published ports, where traffic leaves.

use std::{io::ErrorKind, net::TcpListener};

use steppe_api::v1::{DoorMode, DoorName, Protocol};

use crate::{
    agent::Agent,
    control::{Control, block_on, grant, service_port_with, virtual_ip, workload, workload_id},
    keep::{ALLOWED, NOBODY, guarded, in_each_mode},
    net::{Container, Host, Namespace},
    server::{Connection, Server},
};

const THERE: &str = "192.0.2.2:24011";
const THERE6: &str = "[2001:db8::2]:24011";

struct Stage {
    host: Host,
    agent: Agent,
    peer: Namespace,
    api: Container,
    plain: Container,
    _published: [TcpListener; 3],
}

fn stage() -> Stage {
    let host = Host::new();
    host.forward();
    let peer = host.neighbour();
    peer.ip("route add 172.30.0.0/24 via 192.0.2.1");
    host.net.ip("addr add 2001:db8::1/64 dev up0 nodad");
    peer.ip("addr add 2001:db8::2/64 dev eth0 nodad");
    let listen = |address: &str| peer.run(|| TcpListener::bind(address).unwrap());
    let published = [listen(THERE), listen(THERE6), listen("192.0.2.2:19999")];
    let agent = Agent::start(&host, &[]);
    let [api, plain] = [2, 3].map(|last| host.container(last));
    Stage { host, agent, peer, api, plain, _published: published }
}

impl Stage {
    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.agent).await;
        control.port_of(&self.api).await;
        control.port_of(&self.plain).await;
        let resources = vec![guarded(&self.host, &self.api), workload(&self.host, &self.plain)];
        assert_eq!(control.snapshot(resources).await, []);
        control
    }
}

fn is_answered<T>(result: std::io::Result<T>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "a refusal is an answer");
            false
        }
    }
}

#[test]
fn peers_published_ports_are_not_dialled_past_a_grant() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control().await;
        let by = |uid, address| is_answered(stage.host.net.dial_as(uid, address));
        let leaving = DoorName::Leaving;
        in_each_mode(&mut control, leaving, || is_answered(stage.api.net.dial_for_a_moment(THERE))).await;
        let of = control.refused_of(leaving).await;
        assert!(of.len() == 1 && of[0].0 == workload_id(&stage.api), "{of:?}");
        in_each_mode(&mut control, leaving, || by(NOBODY, THERE)).await;
        in_each_mode(&mut control, leaving, || by(NOBODY, THERE6)).await;

        control.keep(leaving, DoorMode::Enforce).await;
        let before = control.refused(leaving).await;
        for address in [THERE, THERE6] {
            assert!(by(0, address) && by(ALLOWED, address));
        }
        assert!(is_answered(stage.plain.net.dial_for_a_moment(THERE)), "who is not guarded");
        assert!(is_answered(stage.api.net.dial_for_a_moment("192.0.2.2:19999")), "no published port");
        assert!(by(NOBODY, "192.0.2.2:19999"));
        // This host's own address is in the peers' block as well: that is the other door's business.
        let own = stage.host.net.run(|| TcpListener::bind("192.0.2.1:24011").unwrap());
        assert!(
            by(NOBODY, "192.0.2.1:24011") && is_answered(stage.api.net.dial_for_a_moment("192.0.2.1:24011"))
        );
        drop(own);
        assert_eq!(control.refused(leaving).await, before);
    });
}

#[test]
fn what_is_open_goes_on_and_a_grant_leads_there() {
    let stage = stage();
    let server = stage.peer.run(|| TcpListener::bind("192.0.2.2:24012").unwrap());
    let server = Server::of(server, b'p');
    block_on(async {
        let mut control = stage.control().await;
        let mut open = Connection::open(&stage.api.net, "192.0.2.2:24012").unwrap();
        let granted = vec![
            virtual_ip(),
            service_port_with(Protocol::Tcp, 80, None, &[(server.address, 1)]),
            grant(&stage.api, Protocol::Tcp, 80),
        ];
        assert_eq!(control.upsert(granted).await, []);
        control.keep(DoorName::Leaving, DoorMode::Enforce).await;
        open.exchange().unwrap();
        assert!(!is_answered(stage.api.net.dial_for_a_moment("192.0.2.2:24012")));
        let mut granted = Connection::open(&stage.api.net, "247.1.2.3:80").unwrap();
        assert_eq!(granted.server, b'p');
        granted.exchange().unwrap();
    });
}
