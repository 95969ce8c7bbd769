//! Nobody sends by another's addresses, by frames.

use std::net::Ipv4Addr;

use steppe_api::v1::{DoorMode, DoorName};

use crate::{
    agent::Agent,
    control::{Control, block_on, until, workload, workload_id},
    frames::{ARP, BROADCAST, IPV4, IPV6, Wire, arp, ethernet, ipv4, ipv6, ipv6_to, mac, udp},
    keep::{doors, guarded, network},
    net::{Container, Host, receive},
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const SIBLING: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 3);
const EVERYBODY: Ipv4Addr = Ipv4Addr::BROADCAST;
/// Whose it is nobody knows: that of another container would lead the bridge astray.
const FOREIGN: &str = "02:42:99:99:99:99";

/// By what is said of it, a frame for everybody on the bridge; each has the words in it.
type Frames = Vec<(&'static str, Vec<u8>)>;

fn honest(container: &Container) -> Frames {
    let (own, ip) = (mac(&container.mac), container.ip);
    let all = |kind, rest: Vec<u8>| ethernet(own, BROADCAST, kind, &rest);
    let nobody = Ipv4Addr::UNSPECIFIED;
    vec![
        ("own packet", all(IPV4, udp(ip, EVERYBODY, 9, "own packet"))),
        ("own fragment", all(IPV4, ipv4(ip, EVERYBODY, 17, b"own fragment"))),
        ("own report", all(IPV4, ipv4(ip, Ipv4Addr::new(224, 0, 0, 22), 2, b"own report"))),
        ("own question", all(ARP, arp(1, (own, ip), SIBLING, "own question"))),
        ("own announcement", all(ARP, arp(2, (own, ip), ip, "own announcement"))),
        ("own probe", all(ARP, arp(1, (own, nobody), ip, "own probe"))),
    ]
}

/// What a stack that has IPv6 says by itself, and other IPv6 for all: not heard, and no lie.
fn noise(container: &Container) -> Frames {
    let own = mac(&container.mac);
    let all = |to, next, rest: &[u8]| ethernet(own, BROADCAST, IPV6, &ipv6_to(to, next, rest));
    vec![
        ("asks for a router", all("ff02::2", 58, b"\x85\0\0\0 asks for a router")),
        ("is it free", all("ff02::1:ff00:42", 58, b"\x87\0\0\0 is it free")),
        ("in which groups", all("ff02::16", 0, &[ALERT, b"\x8f\0\0\0 in which groups"].concat())),
        ("datagram for all", all("ff02::fb", 17, b"\x14\xe9\x14\xe9\0\x19\0\0 datagram for all")),
    ]
}

/// Hop-by-hop options with a router alert, ICMPv6 behind them (RFC 2711, RFC 8200 §4.3).
const ALERT: &[u8] = &[58, 0, 5, 2, 0, 0, 1, 0];

fn lies(container: &Container) -> Frames {
    let (own, ip, foreign) = (mac(&container.mac), container.ip, mac(FOREIGN));
    let all = |kind, rest: Vec<u8>| ethernet(own, BROADCAST, kind, &rest);
    let masked = |kind, rest: Vec<u8>| ethernet(foreign, BROADCAST, kind, &rest);
    let tagged = |kind: u16, rest: Vec<u8>| all(kind, [&[0, 5][..], &IPV4.to_be_bytes(), &rest].concat());
    let nobody = Ipv4Addr::UNSPECIFIED;
    let vip = Ipv4Addr::new(247, 1, 2, 3);
    let mut short = arp(2, (own, ip), ip, "arp of other lengths");
    short[4] = 8;
    vec![
        ("siblings address", all(IPV4, udp(SIBLING, EVERYBODY, 9, "siblings address"))),
        ("gateways address", all(IPV4, udp(GATEWAY, EVERYBODY, 9, "gateways address"))),
        ("second address", all(IPV4, udp(Ipv4Addr::new(172, 30, 0, 77), EVERYBODY, 9, "second address"))),
        ("virtual address", all(IPV4, udp(vip, EVERYBODY, 9, "virtual address"))),
        ("no address", all(IPV4, udp(nobody, EVERYBODY, 67, "no address"))),
        ("foreign sender", masked(IPV4, udp(ip, EVERYBODY, 9, "foreign sender"))),
        ("arp for sibling", all(ARP, arp(2, (own, SIBLING), ip, "arp for sibling"))),
        ("arp for gateway", all(ARP, arp(2, (own, GATEWAY), ip, "arp for gateway"))),
        ("arp by foreign mac", all(ARP, arp(2, (foreign, ip), ip, "arp by foreign mac"))),
        ("arp in foreign frame", masked(ARP, arp(2, (own, ip), ip, "arp in foreign frame"))),
        ("arp of other lengths", all(ARP, short)),
        ("probe by foreign mac", all(ARP, arp(1, (foreign, nobody), ip, "probe by foreign mac"))),
        ("probe in foreign frame", masked(ARP, arp(1, (own, nobody), ip, "probe in foreign frame"))),
        ("reverse arp", all(0x8035, arp(3, (own, ip), ip, "reverse arp"))),
        ("ipv6 for one", all(IPV6, ipv6_to("fe80::1", 59, b"ipv6 for one"))),
        ("ipv6 by foreign mac", masked(IPV6, ipv6(58, b"\x85\0\0\0 ipv6 by foreign mac"))),
        ("neighbour advertisement", all(IPV6, ipv6(58, b"\x88\0\0\0 neighbour advertisement"))),
        ("router advertisement", all(IPV6, ipv6(58, b"\x86\0\0\0 router advertisement"))),
        ("behind an alert", all(IPV6, ipv6(0, &[ALERT, b"\x88\0\0\0 behind an alert"].concat()))),
        ("tagged for a vlan", tagged(0x8100, udp(ip, EVERYBODY, 9, "tagged for a vlan"))),
        ("tagged by a provider", tagged(0x88a8, udp(ip, EVERYBODY, 9, "tagged by a provider"))),
        ("frame with a length", all(60, b"BBB frame with a length".iter().copied().chain([0; 60]).collect())),
        ("unknown protocol", all(0x88b5, b"unknown protocol".to_vec())),
    ]
}

struct Stage {
    host: Host,
    agent: Agent,
    liar: Container,
    sibling: Container,
    plain: Container,
}

fn stage() -> Stage {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let [liar, sibling, plain] = [2, 3, 4].map(|last| host.container(last));
    Stage { host, agent, liar, sibling, plain }
}

impl Stage {
    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.agent).await;
        for container in [&self.liar, &self.sibling, &self.plain] {
            control.port_of(container).await;
        }
        let resources = vec![
            guarded(&self.host, &self.liar),
            workload(&self.host, &self.sibling),
            workload(&self.host, &self.plain),
        ];
        assert_eq!(control.snapshot(resources).await, []);
        control
    }

    /// What of these is heard on the bridge, by the sibling and by the host.
    fn heard(&self, sender: &Container, frames: &Frames) -> [Vec<String>; 2] {
        let ears = [Wire::new(&self.sibling.net, "eth0"), Wire::new(&self.host.net, "br0")];
        let wire = Wire::new(&sender.net, "eth0");
        // One processor carries them, so that none overtakes another.
        sender.net.run(|| {
            let mut one = rustix::thread::CpuSet::new();
            one.set(0);
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            frames.iter().for_each(|(_, frame)| wire.send(frame));
            let end = udp(sender.ip, EVERYBODY, 9, "the end");
            wire.send(&ethernet(mac(&sender.mac), BROADCAST, IPV4, &end));
        });
        let cookies: Vec<String> = frames.iter().map(|(name, _)| (*name).to_owned()).collect();
        ears.map(|ear| ear.hear("the end", &cookies))
    }
}

fn names(frames: &Frames) -> Vec<String> {
    frames.iter().map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn a_guarded_workload_is_heard_by_its_own_addresses_alone() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control().await;
        let (honest, noise, lies) = (honest(&stage.liar), noise(&stage.liar), lies(&stage.liar));
        for mode in [DoorMode::Enforce, DoorMode::Audit, DoorMode::Off] {
            control.keep(DoorName::Spoofing, mode).await;
            let before = control.refused(DoorName::Spoofing).await;
            let all_are_heard = names(&honest);
            assert_eq!(stage.heard(&stage.liar, &honest), [all_are_heard.clone(), all_are_heard], "{mode:?}");
            assert_eq!(control.refused(DoorName::Spoofing).await, before, "{mode:?}");
            let unless_shut = |frames| if mode == DoorMode::Enforce { Vec::new() } else { names(frames) };
            let expected = unless_shut(&noise);
            assert_eq!(stage.heard(&stage.liar, &noise), [expected.clone(), expected], "{mode:?}");
            assert_eq!(control.refused(DoorName::Spoofing).await, before, "{mode:?}");
            let expected = unless_shut(&lies);
            assert_eq!(stage.heard(&stage.liar, &lies), [expected.clone(), expected], "{mode:?}");
            let counted = control.refused(DoorName::Spoofing).await - before;
            assert_eq!(counted, if mode == DoorMode::Off { 0 } else { lies.len() as u64 }, "{mode:?}");
        }
        let of = control.refused_of(DoorName::Spoofing).await;
        assert_eq!(of, [(workload_id(&stage.liar), 2 * lies.len() as u64)]);
        // Who is not guarded does as it likes.
        control.keep(DoorName::Spoofing, DoorMode::Enforce).await;
        let others = [self::lies(&stage.plain), self::noise(&stage.plain)].concat();
        assert_eq!(stage.heard(&stage.plain, &others)[0], names(&others));
    });
}

#[test]
fn a_container_that_takes_another_address_is_not_heard() {
    let stage = stage();
    let server = stage.sibling.net.udp(SIBLING);
    let port = server.local_addr().unwrap().port();
    block_on(async {
        let mut control = stage.control().await;
        control.keep(DoorName::Spoofing, DoorMode::Enforce).await;
        let send = |ip: Ipv4Addr, text: &str| {
            stage.liar.net.udp(ip).send_to(text.as_bytes(), (SIBLING, port)).unwrap();
        };
        stage.liar.net.ip("addr add 172.30.0.77/24 dev eth0");
        let before = control.refused(DoorName::Spoofing).await;
        send(stage.liar.ip, "a");
        send(Ipv4Addr::new(172, 30, 0, 77), "b");
        let client = control.client.clone();
        until("it was counted", || {
            let mut client = client.clone();
            async move {
                let doors = client.list_doors(steppe_api::v1::ListDoorsRequest {}).await.unwrap();
                doors.into_inner().doors.iter().any(|door| door.refused_total > before)
            }
        })
        .await;
        send(stage.liar.ip, "c");
        let heard = [(); 2].map(|()| receive(&server).unwrap().0);
        assert_eq!(heard, *b"ac");
        // Another hardware address is nobody's.
        stage.liar.net.ip(&format!("link set eth0 address {FOREIGN}"));
        send(stage.liar.ip, "d");
        stage.liar.net.ip(&format!("link set eth0 address {}", stage.liar.mac));
        send(stage.liar.ip, "e");
        assert_eq!(receive(&server).unwrap().0, b'e');
    });
}

#[test]
fn behind_a_networks_ports_nobody_is_heard_who_is_not_known() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control().await;
        let unknown = stage.host.container(9);
        let (server, on_host) = (stage.sibling.net.udp(SIBLING), stage.host.net.udp(GATEWAY));
        let enforced =
            doors(&[(DoorName::Spoofing, DoorMode::Enforce), (DoorName::Networks, DoorMode::Enforce)]);
        assert_eq!(control.upsert(vec![network(), enforced]).await, []);
        let wire = Wire::new(&unknown.net, "eth0");
        let own = mac(&unknown.mac);
        let target = |socket: &std::net::UdpSocket| socket.local_addr().unwrap().port();
        let destinations = [
            (mac(&stage.sibling.mac), SIBLING, target(&server)),
            (mac(&stage.host.mac("br0")), GATEWAY, target(&on_host)),
        ];
        let nowhere = Ipv4Addr::new(198, 51, 100, 1);
        let frames = destinations.iter().flat_map(|(to, ip, port)| {
            let senders = [unknown.ip, stage.liar.ip, GATEWAY, nowhere];
            senders.map(|from| ethernet(own, *to, IPV4, &udp(from, *ip, *port, "x")))
        });
        let mut sent = 0;
        for frame in frames.chain([
            ethernet(own, mac(&stage.sibling.mac), IPV6, &ipv6(59, b"x")),
            ethernet(own, mac(&stage.sibling.mac), 0x88b5, b"x"),
            ethernet(own, BROADCAST, ARP, &arp(1, (own, unknown.ip), SIBLING, "x")),
            ethernet(own, BROADCAST, ARP, &arp(2, (own, stage.liar.ip), SIBLING, "x")),
            ethernet(own, BROADCAST, ARP, &arp(2, (own, GATEWAY), SIBLING, "x")),
        ]) {
            wire.send(&frame);
            sent += 1;
        }
        let client = control.client.clone();
        until("each was counted", || {
            let mut client = client.clone();
            async move {
                let doors = client.list_doors(steppe_api::v1::ListDoorsRequest {}).await.unwrap();
                doors.into_inner().doors.iter().map(|door| door.refused_total).sum::<u64>() >= sent
            }
        })
        .await;
        // Its packet for the host from an address of no network is the one that the bridge lets pass.
        assert!(control.refused(DoorName::Networks).await >= 1);
        for (socket, to) in [(&server, SIBLING), (&on_host, GATEWAY)] {
            let port = target(socket);
            stage.liar.net.udp(stage.liar.ip).send_to(b"y", (to, port)).unwrap();
            let (byte, from) = receive(socket).unwrap();
            assert_eq!((byte, from.ip()), (b'y', stage.liar.ip.into()));
        }
        // Nor does it hear them: `own question` is for everybody, and the end for it alone, from this host.
        let ears = Wire::new(&unknown.net, "eth0");
        let (question, end) = (&honest(&stage.liar)[3], udp(GATEWAY, unknown.ip, 9, "the end"));
        let sibling = Wire::new(&stage.sibling.net, "eth0");
        Wire::new(&stage.liar.net, "eth0").send(&question.1);
        assert_eq!(sibling.hear(question.0, &[]), Vec::<String>::new(), "it was said");
        Wire::new(&stage.host.net, "br0").send(&ethernet(mac(FOREIGN), own, IPV4, &end));
        assert_eq!(ears.hear("the end", &[question.0.into()]), Vec::<String>::new());
        // Once it is known it is one of them.
        control.port_of(&unknown).await;
        assert_eq!(control.upsert(vec![workload(&stage.host, &unknown)]).await, []);
        unknown.net.udp(unknown.ip).send_to(b"z", (SIBLING, target(&server))).unwrap();
        let (byte, from) = receive(&server).unwrap();
        assert_eq!((byte, from.ip()), (b'z', unknown.ip.into()));
    });
}
