//! Where an endpoint of the kernel path may be, by traffic, with what Docker puts into the host's firewall.

use std::{fs, net::SocketAddr, process::Command};

use steppe_api::v1::{self, DockerUserRule, Protocol};

use crate::{
    agent::{self, Agent},
    control::{Control, block_on, grant, service_port_with, takeover, until, virtual_ip, workload},
    net::{Container, Host, Namespace},
    server::{Connection, Server, ask},
};

const MARK_RULE: &str = "-A DOCKER-USER -m mark --mark 0x10000000/0x10000000 -j ACCEPT";

/// What Docker puts for its two bridges: it masquerades what leaves them, and drops what goes from one to another.
fn docker_rules(net: &Namespace) {
    let iptables = |args: &str| net.command("iptables", args);
    iptables("-P FORWARD DROP");
    for chain in ["DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"] {
        iptables(&format!("-N {chain}"));
    }
    iptables("-A DOCKER-USER -j RETURN");
    iptables("-A FORWARD -j DOCKER-USER");
    iptables("-A FORWARD -j DOCKER-ISOLATION-STAGE-1");
    for (bridge, subnet) in [("br0", "172.30.0.0/24"), ("br1", "172.31.0.0/24")] {
        iptables(&format!(
            "-A DOCKER-ISOLATION-STAGE-1 -i {bridge} ! -o {bridge} -j DOCKER-ISOLATION-STAGE-2"
        ));
        iptables(&format!("-A DOCKER-ISOLATION-STAGE-2 -o {bridge} -j DROP"));
        iptables(&format!("-A FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
        iptables(&format!("-A FORWARD -i {bridge} ! -o {bridge} -j ACCEPT"));
        iptables(&format!("-A FORWARD -i {bridge} -o {bridge} -j ACCEPT"));
        iptables(&format!("-t nat -A POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE"));
    }
}

struct Stage {
    host: Host,
    agent: Agent,
    client: Container,
}

fn stage() -> Stage {
    let host = Host::new();
    host.second_bridge();
    host.forward();
    let agent = Agent::start(&host, &[]);
    let client = host.container(2);
    Stage { host, agent, client }
}

impl Stage {
    /// The client is granted these ports of `web`, each of which has one endpoint and no listener.
    async fn control(&self, ports: &[(u16, SocketAddr)]) -> Control {
        let mut control = Control::connect(&self.agent).await;
        control.port_of(&self.client).await;
        let mut resources = vec![workload(&self.host, &self.client), virtual_ip()];
        for (port, endpoint) in ports {
            resources.push(service_port_with(Protocol::Tcp, *port, None, &[(*endpoint, 1)]));
            resources.push(grant(&self.client, Protocol::Tcp, *port));
        }
        assert_eq!(control.snapshot(resources).await, []);
        control
    }

    fn rules(&self) -> String {
        self.host.net.command("iptables", "-S DOCKER-USER")
    }
}

async fn until_standing(control: &Control, standing: DockerUserRule) {
    let client = control.client.clone();
    until(standing.as_str_name(), || {
        let mut client = client.clone();
        async move {
            let status = client.get_status(v1::GetNetfilterStatusRequest {}).await.unwrap().into_inner();
            status.docker_user_rule() == standing
        }
    })
    .await;
}

/// `bridged`: whether bridged packets pass the hooks too (br_netfilter, which Docker turns on).
fn in_all_places(bridged: bool) {
    let stage = stage();
    docker_rules(&stage.host.net);
    let called = if bridged { "1" } else { "0" };
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    stage.host.net.run(|| fs::write(switch, called).unwrap_or_else(|e| panic!("{switch}: {e}")));
    let neighbour = stage.host.neighbour();
    let (near, far) = (stage.host.container(4), stage.host.container_on("br1", [172, 31, 0, 2].into()));
    let servers = [
        Server::new(&neighbour, [192, 0, 2, 2].into(), b'n'),
        Server::new(&near.net, near.ip, b's'),
        Server::new(&stage.client.net, stage.client.ip, b'i'),
        Server::new(&far.net, far.ip, b'b'),
        Server::new(&stage.host.net, [192, 0, 2, 1].into(), b'h'),
    ];
    let ports: Vec<_> = (80..).zip(servers.iter().map(|server| server.address)).collect();
    block_on(async {
        let control = stage.control(&ports).await;
        until_standing(&control, DockerUserRule::InPlace).await;
        // Another host, the same bridge, the client itself, another bridge, this host.
        for (port, name) in (80..).zip(*b"nsibh") {
            let connection = Connection::open(&stage.client.net, &format!("247.1.2.3:{port}"));
            let mut connection = connection.unwrap_or_else(|e| panic!("{}: {e}", char::from(name)));
            assert_eq!(connection.server, name);
            connection.exchange().unwrap();
        }
        // Without a grant the bridges are as far from each other as Docker wants them.
        let apart = servers[3].address.to_string();
        assert_eq!(stage.client.net.dial_in_vain(&apart), std::io::ErrorKind::TimedOut);
        let rules = stage.rules();
        assert_eq!(
            rules,
            format!("-N DOCKER-USER\n{MARK_RULE}\n-A DOCKER-USER -j RETURN\n"),
            "iptables can list it, before what was there"
        );
        let listed = stage.host.net.nft("list chain ip filter DOCKER-USER");
        assert!(listed.contains("mark"), "so can nft: {listed}");
    });
}

#[test]
fn an_endpoint_may_be_anywhere() {
    in_all_places(false);
}

#[test]
fn an_endpoint_may_be_anywhere_with_bridged_packets_in_the_hooks() {
    in_all_places(true);
}

#[test]
fn a_packets_other_marks_stay() {
    let stage = stage();
    let far = stage.host.container_on("br1", [172, 31, 0, 2].into());
    let server = Server::new(&far.net, far.ip, b'b');
    let nft = |args| stage.host.net.nft(args);
    nft("add table ip marks");
    nft("add chain ip marks before { type filter hook prerouting priority -300; }");
    nft("add rule ip marks before meta mark set 0x4001");
    nft("add chain ip marks after { type filter hook forward priority 0; }");
    nft("add rule ip marks after meta mark != 0x10004001 drop");
    block_on(async {
        let _control = stage.control(&[(80, server.address)]).await;
        assert_eq!(ask(&stage.client.net, "247.1.2.3:80").unwrap(), b'b');
    });
}

#[test]
fn who_may_dial_itself_is_behind_a_port_in_hairpin_mode() {
    let stage = stage();
    let others = stage.host.container(5);
    stage.host.net.command("bridge", &format!("link set dev {} hairpin on", others.port));
    let mode = |container: &Container| {
        let link = stage.host.net.ip(&format!("-d link show dev {}", container.port));
        (link.contains("hairpin on"), link.contains("alias steppe: hairpin"))
    };
    let server = Server::new(&stage.client.net, stage.client.ip, b'i');
    let to = |endpoints: &[_]| service_port_with(Protocol::Tcp, 80, None, endpoints);
    block_on(async {
        let mut control = stage.control(&[]).await;
        control.port_of(&others).await;
        let both = [(server.address, 1), ((others.ip, 80).into(), 1)];
        assert_eq!(control.upsert(vec![to(&both), workload(&stage.host, &others)]).await, []);
        assert_eq!(mode(&stage.client), (false, false), "an endpoint, but without a grant");
        let grants = [&stage.client, &others].map(|container| grant(container, Protocol::Tcp, 80));
        assert_eq!(control.upsert(grants.to_vec()).await, []);
        assert_eq!((mode(&stage.client), mode(&others)), ((true, true), (true, false)));
        // Whichever comes first, the grant or the endpoint.
        let later = stage.host.container(6);
        control.port_of(&later).await;
        let first = vec![workload(&stage.host, &later), grant(&later, Protocol::Tcp, 80)];
        assert_eq!(control.upsert(first).await, []);
        assert_eq!(mode(&later), (false, false));
        assert_eq!(control.upsert(vec![to(&[((later.ip, 80).into(), 1)])]).await, []);
        assert_eq!(mode(&later), (true, true));
    });
    drop(stage.agent.kill());
    assert!(agent::run(&stage.host, &["--purge"]).status.success());
    assert_eq!((mode(&stage.client), mode(&others)), ((false, false), (true, false)));
}

#[test]
fn the_rule_in_docker_user_is_looked_after() {
    let stage = stage();
    let far = stage.host.container_on("br1", [172, 31, 0, 2].into());
    let server = Server::new(&far.net, far.ip, b'b');
    let ask_far = || ask(&stage.client.net, "247.1.2.3:80");
    block_on(async {
        let mut control = stage.control(&[]).await;
        assert_eq!(control.status().await.docker_user_rule(), DockerUserRule::NotNeeded);
        let more = |listener| service_port_with(Protocol::Tcp, 80, listener, &[(server.address, 1)]);
        let first = vec![more(None), grant(&stage.client, Protocol::Tcp, 80)];
        assert_eq!(control.upsert(first).await, []);
        until_standing(&control, DockerUserRule::NoChain).await;
        assert_eq!(ask_far().unwrap(), b'b', "nobody drops it");

        // Docker starts after us.
        docker_rules(&stage.host.net);
        until_standing(&control, DockerUserRule::InPlace).await;
        assert_eq!(ask_far().unwrap(), b'b');
        stage.host.net.command("iptables", "-F DOCKER-USER");
        stage.agent.wait_for("somebody removed the rule from Docker's chain");
        stage.host.net.command("iptables", "-A DOCKER-USER -s 198.51.100.1/32 -j DROP");
        stage.host.net.command("iptables", "-A DOCKER-USER -m mark --mark 0x1/0x1 -j ACCEPT");

        // A takeover begins: it is looked at once, not only within seconds.
        stage.host.net.command("iptables", &MARK_RULE.replace("-A", "-D"));
        assert_eq!(control.upsert(vec![takeover()]).await, []);
        stage.agent.wait_for("somebody removed the rule from Docker's chain");
        assert_eq!(stage.rules().matches(MARK_RULE).count(), 1);
    });
    // Who saves and restores the rules gets ours in iptables' own form: it is ours still.
    let again = || Command::new("sh").args(["-c", "iptables-save | iptables-restore"]).status();
    assert!(stage.host.net.run(again).unwrap().success());
    assert_eq!(stage.rules().matches(MARK_RULE).count(), 1);
    drop(stage.agent.kill());
    assert!(agent::run(&stage.host, &["--purge"]).status.success());
    let left = stage.host.net.command("iptables", "-S DOCKER-USER");
    let others = "-N DOCKER-USER\n-A DOCKER-USER -s 198.51.100.1/32 -j DROP\n-A DOCKER-USER -m mark --mark 0x1/0x1 -j ACCEPT\n";
    assert_eq!(left, others);
}
