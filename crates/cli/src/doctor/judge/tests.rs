use std::{collections::BTreeSet, net::Ipv4Addr};

use super::*;
use crate::doctor::{
    Report,
    facts::{Acl, Chain, Docker, Nomad, Owned, Route},
    finding::Level,
};

fn wanted() -> Wanted {
    Wanted {
        services: "247.0.0.0/8".parse().unwrap(),
        listener: Ipv4Addr::new(169, 254, 77, 54),
        dns: Ipv4Addr::new(169, 254, 77, 53),
        users: "10.208.0.0/12".parse().unwrap(),
        ports: 10_000..=19_999,
        preflight: true,
    }
}

fn chain(family: &'static str, table: &str, name: &str, hook: Option<&'static str>, drops: bool) -> Chain {
    Chain { family, table: table.into(), name: name.into(), hook, drops }
}

fn route(to: &str, device: Option<&str>) -> Route {
    Route { to: to.parse().unwrap(), device: device.map(str::to_owned) }
}

fn docker_of(version: &str) -> Docker {
    Docker { version: version.into(), iptables: true, ..Docker::default() }
}

/// A host on which there is nothing to mend.
fn healthy() -> Facts {
    let modules =
        ["nf_tables", "nft_ct", "nft_nat", "nft_chain_nat", "nft_reject_inet", "nft_socket", "nf_conntrack"];
    Facts {
        kernel: "6.12.9-amd64".into(),
        modules: Some(modules.map(str::to_owned).into()),
        forwards: true,
        conntrack: Some((100, 262_144)),
        ephemeral: 32_768..=60_999,
        chains: Ok(vec![
            chain("ip", "filter", "FORWARD", Some("forward"), true),
            chain("ip", "filter", "DOCKER-USER", None, false),
            chain("ip6", "filter", "INPUT", Some("input"), true),
            chain("inet", "steppe", "input", Some("input"), false),
        ]),
        legacy_iptables: false,
        ufw: false,
        routes: vec![
            route("0.0.0.0/0", Some("eth0")),
            route("247.0.0.0/8", None),
            route("169.254.0.0/16", Some("eth0")),
        ],
        addresses: vec![Ipv4Addr::new(10, 0, 0, 5)],
        resolvers: [Ipv4Addr::new(127, 0, 0, 53)].into(),
        localnet: Vec::new(),
        docker: Ok(docker_of("20.10.24")),
        nomad: Some(Ok(Nomad {
            version: "1.3.16".into(),
            client: true,
            allow_caps: Some(vec!["chown".into(), "net_admin".into()]),
            volumes: true,
            dynamic_ports: 20_000..=32_000,
            acl: Acl::Off,
        })),
        run_dir: None,
        boot_unit: true,
    }
}

/// What is found on a host that is healthy but for one thing: the level, and that there is a remedy with these words.
#[track_caller]
fn finds(level: Level, says: &str, fix: &str, spoil: impl FnOnce(&mut Facts)) {
    let mut facts = healthy();
    spoil(&mut facts);
    let findings = judge(&wanted(), &facts);
    let found = findings.iter().find(|finding| finding.level == level && finding.says.contains(says));
    let found = found.unwrap_or_else(|| panic!("no {level:?} with `{says}`: {findings:#?}"));
    assert!(found.fix.as_ref().is_some_and(|text| text.contains(fix)), "{found:?}");
    let others = findings.iter().filter(|finding| finding.level != Level::Ok).count();
    assert_eq!(others, 1, "one cause, one finding: {findings:#?}");
}

fn nomad(spoil: impl FnOnce(&mut Nomad)) -> impl FnOnce(&mut Facts) {
    |facts| {
        if let Some(Ok(nomad)) = &mut facts.nomad {
            spoil(nomad);
        }
    }
}

#[test]
fn a_healthy_host_has_nothing_to_mend() {
    let findings = judge(&wanted(), &healthy());
    assert!(
        findings.iter().all(|finding| finding.level == Level::Ok && finding.fix.is_none()),
        "{findings:#?}"
    );
    assert_eq!(Report::new(findings).exit_code(), 0);
}

#[test]
fn the_kernel() {
    finds(Level::Fail, "5.4.0", "5.10", |facts| facts.kernel = "5.4.0-generic".into());
    finds(Level::Warn, "6.1.0", "6.9", |facts| facts.kernel = "6.1.0-18-amd64".into());
    finds(Level::Unknown, "Linux", "uname", |facts| facts.kernel = String::new());
    finds(Level::Fail, "nft_socket", "modules", |facts| {
        let modules: &mut BTreeSet<String> = facts.modules.as_mut().unwrap();
        modules.remove("nft_socket");
    });
    finds(Level::Fail, "ip_forward is 0", "sysctl", |facts| facts.forwards = false);
    let mut unknown = healthy();
    unknown.modules = None;
    assert!(judge(&wanted(), &unknown).iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn conntrack() {
    finds(Level::Fail, "240000 of 262144", "nf_conntrack_max", |facts| {
        facts.conntrack = Some((240_000, 262_144))
    });
    finds(Level::Warn, "8192", "nf_conntrack_max", |facts| facts.conntrack = Some((10, 8_192)));
}

#[test]
fn docker() {
    finds(Level::Fail, "19.03", "20.10", |facts| {
        facts.docker = Ok(docker_of("19.03.1"));
    });
    finds(Level::Fail, "makes no rules", "--iptables=false", |facts| {
        facts.chains = Ok(Vec::new());
        facts.docker.as_mut().unwrap().iptables = false;
    });
    finds(Level::Warn, "docker0 carry packets for 127", "userland-proxy", |facts| {
        facts.localnet = vec!["docker0".into()];
    });
    finds(Level::Fail, "no answer", "start Docker", |facts| facts.docker = Err("no answer".into()));
    for (option, says) in [("name=userns", "userns-remap"), ("name=rootless", "rootless")] {
        finds(Level::Fail, says, "run", |facts| facts.docker.as_mut().unwrap().security.push(option.into()));
    }
}

#[test]
fn firewalls() {
    finds(Level::Warn, "ufw", "ufw allow to 169.254.77.54", |facts| {
        facts.ufw = true;
        facts.chains.as_mut().unwrap().push(chain("ip", "filter", "INPUT", Some("input"), true));
    });
    finds(Level::Warn, "firewalld", "firewall-cmd", |facts| {
        facts.chains.as_mut().unwrap().push(chain("inet", "firewalld", "filter_INPUT", Some("input"), false));
    });
    finds(
        Level::Warn,
        "inet mine in drops",
        "nft insert rule inet mine in ip daddr 169.254.77.54",
        |facts| {
            facts.chains.as_mut().unwrap().push(chain("inet", "mine", "in", Some("input"), true));
        },
    );
    finds(Level::Warn, "inet mine fwd drops", "ct original ip daddr 247.0.0.0/8", |facts| {
        facts.chains.as_mut().unwrap().push(chain("inet", "mine", "fwd", Some("forward"), true));
    });
    finds(Level::Unknown, "root alone", "as root", |facts| facts.chains = Err("root alone".into()));
}

#[test]
fn how_docker_makes_its_rules() {
    finds(Level::Warn, "legacy iptables", "iptables-nft", |facts| {
        facts.chains = Ok(Vec::new());
        facts.legacy_iptables = true;
    });
    finds(Level::Warn, "nftables itself", "firewall-backend", |facts| {
        facts.chains = Ok(Vec::new());
        facts.docker.as_mut().unwrap().firewall = Some("nftables".into());
    });
    finds(Level::Warn, "no chain DOCKER-USER", "daemon.json", |facts| facts.chains = Ok(Vec::new()));
}

#[test]
fn addresses() {
    for to in ["247.1.0.0/16", "240.0.0.0/4"] {
        finds(Level::Fail, to, "--service-cidr", |facts| facts.routes.push(route(to, Some("eth1"))));
    }
    finds(Level::Fail, "247.1.2.3 is an address", "--service-cidr", |facts| {
        facts.addresses.push(Ipv4Addr::new(247, 1, 2, 3));
    });
    finds(Level::Warn, "169.254.77.0/28", "--listener-address", |facts| {
        facts.routes.push(route("169.254.77.0/28", Some("eth1")));
    });
    finds(Level::Warn, "169.254.77.54 is an address", "--listener-address", |facts| {
        facts.addresses.push(Ipv4Addr::new(169, 254, 77, 54));
    });
}

#[test]
fn users_networks() {
    finds(Level::Warn, "10.209.7.0/24 is routed to eth1", "--user-cidr", |facts| {
        facts.routes.push(route("10.209.7.0/24", Some("eth1")));
    });
    let mut own = healthy();
    own.routes.push(route("10.209.7.0/24", Some("steppe-alice")));
    assert!(judge(&wanted(), &own).iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn names() {
    finds(Level::Fail, "port 53 of every address", "bind-interfaces", |facts| {
        facts.resolvers.insert(Ipv4Addr::UNSPECIFIED);
    });
    finds(Level::Warn, "169.254.77.53 is an address", "--dns-address", |facts| {
        facts.addresses.push(wanted().dns);
    });
    finds(Level::Unknown, "/var/lib/docker/containers can't be read", "as root", |facts| {
        let docker = facts.docker.as_mut().unwrap();
        docker.containers = "/var/lib/docker/containers".into();
        docker.containers_unread = Some("permission denied".into());
    });
    let says = |spoil: &dyn Fn(&mut Facts)| {
        let mut facts = healthy();
        spoil(&mut facts);
        let findings = judge(&Wanted { preflight: false, ..wanted() }, &facts);
        let own = findings.into_iter().filter(|finding| finding.about == "dns");
        own.map(|finding| (finding.level, finding.says)).collect::<Vec<_>>()
    };
    let without = says(&|_| {});
    assert!(
        matches!(&without[..], [(Level::Fail, no), (Level::Fail, nobody)]
        if no.contains("no address of this host") && nobody.contains("nobody answers")),
        "{without:?}"
    );
    let running = says(&|facts| {
        facts.addresses.push(wanted().dns);
        // Beside one that listens everywhere and shares.
        facts.resolvers.extend([wanted().dns, Ipv4Addr::UNSPECIFIED]);
    });
    assert_eq!(running, [(Level::Ok, "it answers at 169.254.77.53".to_owned())]);
}

#[test]
fn ports() {
    finds(
        Level::Fail,
        "Nomad hands out",
        "min_dynamic_port",
        nomad(|nomad| nomad.dynamic_ports = 19_000..=32_000),
    );
    finds(Level::Warn, "outgoing connections", "ip_local_port_range", |facts| {
        facts.ephemeral = 1_024..=65_535
    });
}

#[test]
fn nomads_docker_plugin() {
    finds(Level::Fail, "net_admin", "\"chown\"", nomad(|nomad| nomad.allow_caps = None));
    finds(
        Level::Fail,
        "net_admin",
        "allow_caps",
        nomad(|nomad| nomad.allow_caps = Some(vec!["chown".into()])),
    );
    finds(
        Level::Fail,
        "mount directories",
        "volumes { enabled = true }",
        nomad(|nomad| nomad.volumes = false),
    );
    finds(Level::Fail, "0.12.1", "1.0", nomad(|nomad| nomad.version = "0.12.1".into()));
    finds(Level::Unknown, "of a server", "NOMAD_ADDR", nomad(|nomad| nomad.client = false));
    finds(Level::Unknown, "no answer", "NOMAD_ADDR", |facts| facts.nomad = Some(Err("no answer".into())));
    let mut all = healthy();
    nomad(|nomad| nomad.allow_caps = Some(vec!["all".into()]))(&mut all);
    assert!(judge(&wanted(), &all).iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn nomads_acls() {
    finds(Level::Warn, "may do everything", "policy.hcl", nomad(|nomad| nomad.acl = Acl::Management));
    finds(
        Level::Fail,
        "namespace \"*\"",
        "policy.hcl",
        nomad(|nomad| nomad.acl = Acl::Lacks(vec!["namespace \"*\""])),
    );
    finds(Level::Unknown, "403", "NOMAD_TOKEN", nomad(|nomad| nomad.acl = Acl::Unknown("403".into())));
}

#[test]
fn what_is_steppes_own() {
    finds(Level::Warn, "between boot", "steppe-boot.service", |facts| facts.boot_unit = false);
    finds(Level::Fail, "mode 777", "chmod 1770", |facts| {
        facts.run_dir = Some(Owned { uid: 0, gid: 0, mode: 0o777 })
    });
    let mut installed = healthy();
    installed.addresses.extend([wanted().listener, wanted().dns]);
    installed.resolvers.insert(wanted().dns);
    let after = judge(&Wanted { preflight: false, ..wanted() }, &installed);
    let wrong: Vec<_> = after.iter().filter(|finding| finding.level != Level::Ok).collect();
    assert!(matches!(wrong[..], [finding] if finding.about == "run dir"), "{wrong:?}");
}

#[test]
fn the_exit_code_is_the_worst() {
    let code = |spoil: &dyn Fn(&mut Facts)| {
        let mut facts = healthy();
        spoil(&mut facts);
        Report::new(judge(&wanted(), &facts)).exit_code()
    };
    assert_eq!(code(&|facts| facts.boot_unit = false), 0);
    assert_eq!(code(&|facts| facts.chains = Err("root alone".into())), 4);
    assert_eq!(code(&|facts| (facts.chains, facts.forwards) = (Err("root alone".into()), false)), 1);
}
