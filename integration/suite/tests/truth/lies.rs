//! What a container may send: it makes up whole frames, and an ear on the same bridge tells which arrive.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use steppe_testbed::{
    Container, Host, Lines, Run, eventually,
    frame::{self, BROADCAST, Ends, Mac},
    message,
};

use super::{
    dial::link_local,
    scenes::{column, counters},
    table::{Line, Table},
};
use crate::common::{
    SOON,
    networks::{self, gateway, hardware, of_user, on},
    reach::{reaches, vip_of},
};

/// For a frame that passes, which takes microseconds, on a machine that does much else.
const ARRIVES: Duration = Duration::from_secs(3);
/// For the answer to one.
const ANSWERED: Duration = Duration::from_millis(200);
/// An EtherType for experiments (IEEE 802, local experimental 1).
const EXPERIMENT: u16 = 0x88b5;
const VLAN: u16 = 7;
/// Questions, more than may pass in the seconds that it takes to send them.
const FLOOD: &str = "60000";
/// Packets at once, and in a second, that dns is handed of one port.
const AT_ONCE: u64 = 512;
const A_SECOND: f64 = 10_000.0;
/// The EtherType of a frame with a VLAN tag (IEEE 802.1Q).
const TAGGED: &str = "8100";
/// Where nobody listens.
const PORT: u16 = 4_242;
const NOBODYS_MAC: Mac = [2, 0, 0, 0, 0, 0x77];
/// The gateway of Docker's default bridge.
const DOCKER0: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
const DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 53);
/// Some virtual IP.
const VIP: Ipv4Addr = Ipv4Addr::new(247, 1, 2, 3);

/// Containers on one bridge.
struct Bridge {
    device: String,
    /// It hears every frame that is sent to it, and is granted alice's `lies`.
    ear: Ear,
    /// On a user's network: another user's, who should not be there.
    intruder: Option<Ear>,
    /// Another container, of the same user.
    other: Container,
    gateway: Ipv4Addr,
    gateways_mac: Mac,
    /// An address of the other bridge's.
    foreign: Ipv4Addr,
    liars: Vec<(&'static str, Container)>,
}

struct Ear {
    container: Container,
    heard: Lines,
}

impl Ear {
    fn run(host: &Host, run: Run) -> Self {
        let container = host.docker.run(run);
        Self { heard: container.lines(), container }
    }

    fn ends(&self, from: Mac) -> Ends {
        Ends { from, to: mac(&self.container) }
    }
}

/// What tells that a frame got where it was sent to.
enum Sign {
    /// The ear hears it.
    Heard,
    /// The intruder hears it; where there is none, the ear.
    HeardByIntruder,
    /// The ear hears an answer from this address to the port that the lie says it is from.
    Answered(Ipv4Addr, u16),
}

struct Lie {
    label: &'static str,
    frame: Vec<u8>,
    sign: Sign,
}

impl Lie {
    fn new(label: &'static str, frame: Vec<u8>) -> Self {
        Self { label, frame, sign: Sign::Heard }
    }

    /// Whether a frame that was heard, in hex digits, is the sign.
    fn is_shown_by(&self, by_intruder: bool, heard: &str) -> bool {
        match self.sign {
            Sign::Heard => !by_intruder && heard.starts_with(&as_heard(&self.frame)),
            Sign::HeardByIntruder => by_intruder && heard.starts_with(&as_heard(&self.frame)),
            Sign::Answered(from, port) => {
                // The source of an IPv4 header without options, and the port that follows it.
                let source = heard.get(52..60) == Some(&frame::hex(&from.octets()));
                source && heard.get(72..76) == Some(&frame::hex(&port.to_be_bytes()))
            }
        }
    }
}

/// A packet socket is handed a frame without its VLAN tag, 4 bytes behind the addresses.
fn as_heard(bytes: &[u8]) -> String {
    let word = frame::hex(bytes);
    if word[24..].starts_with(TAGGED) { format!("{}{}", &word[..24], &word[32..]) } else { word }
}

/// Everybody who lies, and who hears it.
pub struct Lies<'a> {
    host: &'a Host,
    bridges: Vec<Bridge>,
    /// How many have told all there is, so that each time has ports of its own.
    times: Cell<u16>,
    /// The bridge ports of those liars who are known, by their addresses.
    ports: BTreeMap<Ipv4Addr, String>,
    vip: Ipv4Addr,
}

impl<'a> Lies<'a> {
    /// Starts them, on a host where Steppe runs and the networks are there.
    pub fn start(host: &'a Host) -> Self {
        let web = Run::serve("lies-web", 80).label("steppe.service", "lies:80");
        let web = host.docker.run(on("alice", web));
        let granted = |run: Run| of_user(run, "alice").label("steppe.connect_to", "lies:80");
        let alice: Place = (gateway(host, "alice").expect("it is there"), DOCKER0, |run| on("alice", run));
        let default: Place = (DOCKER0, web.address(), |run| run);
        let guarded = of_user(liar("liar-guarded"), "alice");
        let alice = bridge(
            host,
            "alice",
            &alice,
            granted,
            &[("alice", liar("liar")), ("gvisor", liar("liar-gvisor").runsc())],
        );
        let default = bridge(
            host,
            "docker0",
            &default,
            granted,
            &[("guarded", guarded), ("stranger", liar("liar-stranger"))],
        );
        let mut bridges = vec![alice, default];
        let known = bridges.iter().flat_map(|bridge| bridge.liars.iter().map(|(_, liar)| liar));
        let ports = known.map(|liar| (liar.address(), port_of(host, liar))).collect();
        let intruder = host.docker.run(of_user(liar("liar-intruder").network("steppe-alice"), "bob"));
        bridges[0].liars.push(("intruder", intruder));
        let vip = vip_of(host, "alice", "lies", 80);
        reaches(&bridges[1].ear.container, vip);
        let SocketAddr::V4(vip) = vip else { unreachable!("virtual IPs are IPv4") };
        Self { host, bridges, times: Cell::new(0), ports, vip: *vip.ip() }
    }

    /// Tells every lie from everywhere, and how many frames were counted as whose.
    pub fn table(&self) -> Table {
        let all = self.bridges.iter().flat_map(|bridge| bridge.liars.iter().map(move |liar| (bridge, liar)));
        let told: Vec<_> = all
            .map(|(bridge, (name, liar))| {
                // A lie that was believed led the bridge astray.
                self.host.sh(&format!("ip link set {} type bridge fdb_flush", bridge.device)).ok();
                let before = self.counted(liar);
                let told = bridge.tell(liar, self.vip, self.next_ports());
                (*name, told, self.counted(liar) - before)
            })
            .collect();
        let labels = told[0].1.iter().map(|(label, _)| *label).enumerate();
        let lines = labels.map(|(at, label)| {
            let cells = told.iter().map(|(_, lies, _)| if lies[at].1 { "heard" } else { "dropped" });
            Line { target: label.to_owned(), cells: cells.map(str::to_owned).collect() }
        });
        let counts = told.iter().map(|(_, _, counted)| counted.to_string());
        let counts = Line { target: "frames".to_owned(), cells: counts.collect() };
        let parts = vec![
            ("what it sends".to_owned(), lines.collect()),
            ("what is counted of it".to_owned(), vec![counts]),
        ];
        Table { diallers: told.iter().map(|(name, _, _)| (*name).to_owned()).collect(), parts }
    }

    /// Whether more questions of one who asks and asks get as far as this host than may.
    pub fn flood(&self) -> Table {
        let bridge = &self.bridges[1];
        let (name, liar) = &bridge.liars[0];
        let question = message::question(1, "nothing.steppe.internal", 1).expect("a short name");
        let ends = Ends { from: mac(liar), to: bridge.gateways_mac };
        let from = (liar.address(), self.next_ports());
        let frame = frame::hex(&frame::udp(ends, from, (DNS, 53), &question));
        let rule = format!("ip saddr {} ip daddr {DNS} counter", liar.address());
        self.host.nft(&[&format!(
            "add table inet testbed_flood; \
             add chain inet testbed_flood heard {{ type filter hook prerouting priority -300; }}; \
             add rule inet testbed_flood heard {rule}"
        )]);
        let began = Instant::now();
        liar.exec(&["probe", "send", "--dev", "eth0", "--times", FLOOD, &frame]).ok();
        let allowed = AT_ONCE + (began.elapsed().as_secs_f64() * A_SECOND) as u64;
        let told = self.host.nft(&["list", "table", "inet", "testbed_flood"]);
        self.host.nft(&["delete", "table", "inet", "testbed_flood"]);
        let packets = told.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let heard: u64 = packets.unwrap_or_else(|| panic!("{told}"));
        println!("{heard} of {FLOOD} heard, {allowed} allowed");
        let cell = if heard > allowed { "too-many" } else { "limited" };
        column(name, "a flood of questions", vec![("questions".to_owned(), cell.to_owned())])
    }

    /// The first of four ports: answers may come late, and connection tracking remembers.
    fn next_ports(&self) -> u16 {
        let times = self.times.get();
        self.times.set((times + 1) % 7_000);
        32_000 + 4 * times
    }

    /// What the door `spoofing` has counted as a container's.
    fn counted(&self, liar: &Container) -> u64 {
        let port = self.ports.get(&liar.address()).map_or("", String::as_str);
        counters(self.host).get(&format!("bridge set guarded {port}")).copied().unwrap_or(0)
    }
}

/// The bridge's gateway, an address on another bridge, and how a container is put there.
type Place = (Ipv4Addr, Ipv4Addr, fn(Run) -> Run);

fn bridge(
    host: &Host,
    name: &str,
    &(gateway, foreign, place): &Place,
    granted: impl Fn(Run) -> Run,
    liars: &[(&'static str, Run)],
) -> Bridge {
    let run = |run: Run| host.docker.run(place(run));
    let network = format!("steppe-{name}");
    let intruder = (gateway != DOCKER0)
        .then(|| Ear::run(host, of_user(Run::hear("ear-intruder").network(&network), "bob")));
    Bridge {
        ear: Ear::run(host, place(granted(Run::hear(&format!("ear-{name}"))))),
        intruder,
        other: run(Run::idle(&format!("other-{name}"))),
        gateway,
        device: networks::bridge(host, gateway),
        gateways_mac: hardware(host, gateway),
        foreign,
        liars: liars.iter().map(|(name, liar)| (*name, run(liar.clone()))).collect(),
    }
}

/// Waits until a container is bound to its bridge port, and tells the port.
fn port_of(host: &Host, container: &Container) -> String {
    let binding = format!(" . {} . {}", container.mac(), container.address());
    eventually(SOON, &format!("{} is known", container.name), || {
        let set = host.nft(&["list", "set", "bridge", "steppe", "bindings"]);
        let port = set.split_once(&binding).and_then(|(before, _)| before.split_whitespace().last());
        port.map(|port| port.replace('"', "")).ok_or(set)
    })
}

fn liar(name: &str) -> Run {
    Run::idle(name).capability("NET_RAW").capability("NET_ADMIN")
}

fn mac(container: &Container) -> Mac {
    frame::parse_mac(&container.mac()).expect("Docker tells a hardware address")
}

impl Bridge {
    /// Sends every frame, and tells which of them got where they were sent to.
    fn tell(&self, liar: &Container, vip: Ipv4Addr, ports: u16) -> Vec<(&'static str, bool)> {
        let lies = self.lies(liar, vip, ports);
        let sent: Vec<String> = lies.iter().map(|lie| frame::hex(&lie.frame)).collect();
        let mut command = vec!["probe", "send", "--dev", "eth0"];
        command.extend(sent.iter().map(String::as_str));
        let ears = [Some(&self.ear), self.intruder.as_ref()];
        ears.iter().flatten().for_each(|ear| drop(ear.heard.drain()));
        liar.exec(&command).ok();
        // What another says truly comes after it all.
        let truly = (self.other.address(), PORT);
        let end =
            frame::udp(self.ear.ends(mac(&self.other)), truly, (self.ear.container.address(), PORT), b"end");
        self.other.exec(&["probe", "send", "--dev", "eth0", &frame::hex(&end)]).ok();
        let end = frame::hex(&end);
        let mut shown = vec![false; lies.len()];
        let mut until = Instant::now() + ARRIVES;
        for (by_intruder, ear) in ears.into_iter().enumerate() {
            let Some(ear) = ear else { continue };
            while let Ok(line) = ear.heard.try_next(until.saturating_duration_since(Instant::now())) {
                let bytes = line.split_once(' ').map_or("", |(_, bytes)| bytes);
                for (lie, shown) in lies.iter().zip(&mut shown) {
                    *shown |= lie.is_shown_by(by_intruder == 1, bytes);
                }
                if bytes.starts_with(&end) {
                    until = Instant::now() + ANSWERED;
                }
            }
        }
        lies.iter().zip(shown).map(|(lie, shown)| (lie.label, shown)).collect()
    }

    fn lies(&self, liar: &Container, vip: Ipv4Addr, port: u16) -> Vec<Lie> {
        let (own_mac, own) = (mac(liar), liar.address());
        let (others_mac, others) = (mac(&self.other), self.other.address());
        let (ears_mac, ears) = (mac(&self.ear.container), self.ear.container.address());
        let to_ear = |from: Mac| self.ear.ends(from);
        let say =
            |from: Mac, ip: Ipv4Addr, text: &[u8]| frame::udp(to_ear(from), (ip, PORT), (ears, PORT), text);
        let udp = |from: Mac, ip: Ipv4Addr| say(from, ip, b"bare");
        let arp =
            |from: Mac, sender: (Mac, Ipv4Addr)| frame::arp_answer(to_ear(from), sender, (ears_mac, ears));
        let nobodys = Ipv4Addr::from(u32::from(others) + 50);
        let ask = |sender: Ipv4Addr| {
            frame::arp_request(Ends { from: own_mac, to: BROADCAST }, (own_mac, sender), ears)
        };
        let advertised = |whose: Ipv6Addr| frame::neighbour(to_ear(own_mac), whose, link_local(ears_mac));
        let by_itself = link_local(own_mac);
        let to_all = |last: u8| {
            let ends = Ends { from: own_mac, to: [0x33, 0x33, 0, 0, 0, last] };
            (ends, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, last.into()))
        };
        let ((nodes, all_nodes), (routers, all_routers)) = (to_all(1), to_all(2));
        let out = |from: Mac| Ends { from, to: self.gateways_mac };
        // To the gateway's hardware, as the ear, who is answered: each from a port of its own.
        let syn = |from: Mac, port: u16| frame::syn(out(from), (ears, port), (vip, 80));
        let question = message::question(1, "lies.steppe.internal", 1).expect("a short name");
        let asks = |from: Mac, port: u16| frame::udp(out(from), (ears, port), (DNS, 53), &question);
        let mut all = Vec::from(
            [
                ("the truth", udp(own_mac, own)),
                ("another's address", udp(own_mac, others)),
                ("another's hardware address", udp(others_mac, own)),
                ("another's both", udp(others_mac, others)),
                ("nobody's address", udp(own_mac, nobodys)),
                ("nobody's hardware address", udp(NOBODYS_MAC, own)),
                ("an address of another network", udp(own_mac, self.foreign)),
                ("a virtual address", udp(own_mac, VIP)),
                ("the gateway's address", udp(own_mac, self.gateway)),
                ("the address 0.0.0.0", udp(own_mac, Ipv4Addr::UNSPECIFIED)),
                ("the truth in a VLAN", frame::tagged(&say(own_mac, own, b"tagged"), VLAN)),
                ("ARP: the truth", arp(own_mac, (own_mac, own))),
                ("ARP: is another", arp(own_mac, (own_mac, others))),
                ("ARP: is the gateway", arp(own_mac, (own_mac, self.gateway))),
                ("ARP: is nobody", arp(own_mac, (own_mac, nobodys))),
                ("ARP: is of another network", arp(own_mac, (own_mac, self.foreign))),
                ("ARP: tells of another's hardware", arp(own_mac, (others_mac, own))),
                ("ARP: sent as another's hardware", arp(others_mac, (own_mac, own))),
                ("ARP: asks", ask(own)),
                ("ARP: asks as another", ask(others)),
                ("ARP: asks whether an address is free", ask(Ipv4Addr::UNSPECIFIED)),
                ("IPv6: is itself", advertised(link_local(own_mac))),
                ("IPv6: is another", advertised(link_local(others_mac))),
                ("IPv6: is another, to all", frame::neighbour(nodes, link_local(others_mac), all_nodes)),
                ("IPv6: is a router", frame::router(nodes, by_itself, all_nodes)),
                ("IPv6: asks for a router", frame::router_wanted(routers, by_itself, all_routers)),
                ("neither IP nor ARP", frame::ethernet(to_ear(own_mac), EXPERIMENT, b"anything at all")),
            ]
            .map(|(label, frame)| Lie::new(label, frame)),
        );
        let answered = [
            ("to a virtual IP, as one who is granted it", syn(own_mac, port), vip, port),
            ("the same with his hardware address", syn(ears_mac, port + 1), vip, port + 1),
            ("asks dns as another", asks(own_mac, port + 2), DNS, port + 2),
            ("the same with his hardware", asks(ears_mac, port + 3), DNS, port + 3),
        ];
        all.extend(answered.map(|(label, frame, from, port)| Lie {
            label,
            frame,
            sign: Sign::Answered(from, port),
        }));
        if let Some(intruder) = &self.intruder {
            let to = (intruder.container.address(), PORT);
            let frame = frame::udp(intruder.ends(own_mac), (own, PORT), to, b"to the intruder");
            all.push(Lie { label: "the truth, to an intruder", frame, sign: Sign::HeardByIntruder });
        } else {
            all.push(Lie::new("the truth, to an intruder", say(own_mac, own, b"no intruder here")));
        }
        all
    }
}
