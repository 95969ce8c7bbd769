//! What a container may send: it makes up whole frames, and an ear on the same bridge tells which arrive.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use steppe_testbed::{
    Container, Host, Lines, Run,
    frame::{self, BROADCAST, Ends, Mac},
};

use super::{
    dial::link_local,
    table::{Line, Table},
};
use crate::common::networks::{gateway, of_user, on};

/// For a frame that passes, which takes microseconds.
const ARRIVES: Duration = Duration::from_millis(500);
/// An EtherType for experiments (IEEE 802, local experimental 1).
const EXPERIMENT: u16 = 0x88b5;
const VLAN: u16 = 7;
/// The EtherType of a frame with a VLAN tag (IEEE 802.1Q).
const TAGGED: &str = "8100";
/// Where nobody listens.
const PORT: u16 = 4_242;
const NOBODYS_MAC: Mac = [2, 0, 0, 0, 0, 0x77];
/// The gateway of Docker's default bridge.
const DOCKER0: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
/// Some virtual IP.
const VIP: Ipv4Addr = Ipv4Addr::new(247, 1, 2, 3);

/// Containers on one bridge.
struct Bridge {
    /// It hears every frame that is sent to it.
    ear: Container,
    heard: Lines,
    /// Another container, of the same user.
    other: Container,
    gateway: Ipv4Addr,
    liars: Vec<(&'static str, Container)>,
}

/// Everybody who lies, and who hears it.
pub struct Lies {
    bridges: Vec<Bridge>,
}

fn liar(name: &str) -> Run {
    Run::idle(name).capability("NET_RAW").capability("NET_ADMIN")
}

impl Lies {
    /// Starts them, on a host where Steppe runs and the networks are there.
    pub fn start(host: &Host) -> Self {
        let alice = bridge(
            host,
            "alice",
            |run| on("alice", run),
            &[("alice", liar("liar")), ("gvisor", liar("liar-gvisor").runsc())],
        );
        let guarded = of_user(liar("liar-guarded"), "alice");
        let default =
            bridge(host, "docker0", |run| run, &[("guarded", guarded), ("stranger", liar("liar-stranger"))]);
        Self { bridges: vec![alice, default] }
    }

    /// Tells every lie from everywhere.
    pub fn table(&self) -> Table {
        let told: Vec<(&str, Vec<(&str, bool)>)> = self
            .bridges
            .iter()
            .flat_map(|bridge| bridge.liars.iter().map(|(name, liar)| (*name, bridge.tell(liar))))
            .collect();
        let labels = told[0].1.iter().map(|(label, _)| *label).enumerate();
        let lines = labels.map(|(at, label)| {
            let cells = told.iter().map(|(_, lies)| if lies[at].1 { "heard" } else { "dropped" });
            Line { target: label.to_owned(), cells: cells.map(str::to_owned).collect() }
        });
        let diallers = told.iter().map(|(name, _)| (*name).to_owned()).collect();
        Table { diallers, parts: vec![("what it sends".to_owned(), lines.collect())] }
    }
}

fn bridge(host: &Host, name: &str, place: impl Fn(Run) -> Run, liars: &[(&'static str, Run)]) -> Bridge {
    let run = |run: Run| host.docker.run(place(run));
    let ear = run(Run::hear(&format!("ear-{name}")));
    let other = run(Run::idle(&format!("other-{name}")));
    let gateway = gateway(host, name).unwrap_or(DOCKER0);
    let liars = liars.iter().map(|(name, liar)| (*name, run(liar.clone()))).collect();
    Bridge { heard: ear.lines(), ear, other, gateway, liars }
}

fn mac(container: &Container) -> Mac {
    frame::parse_mac(&container.mac()).expect("Docker tells a hardware address")
}

impl Bridge {
    /// Sends every frame, and tells which of them were heard.
    fn tell(&self, liar: &Container) -> Vec<(&'static str, bool)> {
        let frames = self.frames(liar);
        let sent: Vec<String> = frames.iter().map(|(_, bytes)| frame::hex(bytes)).collect();
        // A packet socket is handed a frame without its VLAN tag, 4 bytes behind the addresses.
        let words: Vec<String> = sent
            .iter()
            .map(|word| {
                if word[24..].starts_with(TAGGED) {
                    format!("{}{}", &word[..24], &word[32..])
                } else {
                    word.clone()
                }
            })
            .collect();
        let mut command = vec!["probe", "send", "--dev", "eth0"];
        command.extend(sent.iter().map(String::as_str));
        self.heard.drain();
        liar.exec(&command).ok();
        let mut missing: BTreeSet<&str> = words.iter().map(String::as_str).collect();
        let until = Instant::now() + ARRIVES;
        while !missing.is_empty() {
            match self.heard.try_next(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let bytes = line.split_once(' ').map_or("", |(_, bytes)| bytes);
                    missing.retain(|word| !bytes.starts_with(word));
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => panic!("{} has ended", self.ear.name),
            }
        }
        frames
            .iter()
            .zip(&words)
            .map(|((label, _), word)| (*label, !missing.contains(word.as_str())))
            .collect()
    }

    fn frames(&self, liar: &Container) -> Vec<(&'static str, Vec<u8>)> {
        let (own_mac, own) = (mac(liar), liar.address());
        let (others_mac, others) = (mac(&self.other), self.other.address());
        let (ears_mac, ears) = (mac(&self.ear), self.ear.address());
        let to_ear = |from: Mac| Ends { from, to: ears_mac };
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
        vec![
            ("the truth", udp(own_mac, own)),
            ("another's address", udp(own_mac, others)),
            ("another's hardware address", udp(others_mac, own)),
            ("another's both", udp(others_mac, others)),
            ("nobody's address", udp(own_mac, nobodys)),
            ("nobody's hardware address", udp(NOBODYS_MAC, own)),
            ("a virtual address", udp(own_mac, VIP)),
            ("the gateway's address", udp(own_mac, self.gateway)),
            ("the address 0.0.0.0", udp(own_mac, Ipv4Addr::UNSPECIFIED)),
            ("the truth in a VLAN", frame::tagged(&say(own_mac, own, b"tagged"), VLAN)),
            ("ARP: the truth", arp(own_mac, (own_mac, own))),
            ("ARP: is another", arp(own_mac, (own_mac, others))),
            ("ARP: is the gateway", arp(own_mac, (own_mac, self.gateway))),
            ("ARP: is nobody", arp(own_mac, (own_mac, nobodys))),
            ("ARP: tells of another's hardware", arp(own_mac, (others_mac, own))),
            ("ARP: sent as another's hardware", arp(others_mac, (own_mac, own))),
            ("ARP: asks", ask(own)),
            ("ARP: asks as another", ask(others)),
            ("ARP: asks whether an address is free", ask(Ipv4Addr::UNSPECIFIED)),
            ("IPv6: is itself", advertised(link_local(own_mac))),
            ("IPv6: is another", advertised(link_local(others_mac))),
            ("neither IP nor ARP", frame::ethernet(to_ear(own_mac), EXPERIMENT, b"anything at all")),
        ]
    }
}
