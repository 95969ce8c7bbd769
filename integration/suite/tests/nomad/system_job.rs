//! `nomad job run system.hcl`: Steppe installed, used, upgraded in one part under load, and removed, all by Nomad.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use steppe_testbed::{Cluster, Host, Outcome, Run, eventually};

use super::{
    PLACED, container,
    jobs::{Job, PORT, web_service},
    running, text, version, web,
};
use crate::common::{
    SOON,
    load::Load,
    reach::{reaches, refused},
};

/// The job's groups.
const PARTS: [&str; 5] = ["control", "netfilter-agent", "proxy", "dns-a", "dns-b"];
const IMAGES: [&str; 4] = ["control", "netfilter-agent", "proxy", "dns"];

/// Where a host of the testbed has them.
const CONTAINERS: &str = "docker_containers=/run/docker-data/containers";
const DATA: &str = "/run/docker-data/containers";

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nomad").join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Loads the images that `make images` has made, under their own version and as the next one.
fn load_images(host: &Host) -> String {
    let dir = std::env::var_os("STEPPE_IMAGES").expect("STEPPE_IMAGES names what `make images` has made");
    let version = env!("CARGO_PKG_VERSION");
    for image in IMAGES {
        host.docker.load(&PathBuf::from(&dir).join(format!("steppe-{image}.tar")));
        host.docker.tag(&format!("steppe-{image}:{version}"), "next");
    }
    version.to_owned()
}

/// Runs one of our jobs with these variables, for a Nomad of whatever age.
fn run(host: &Host, file: &str, variables: &[&str]) {
    let mut words = vec!["job", "run", "-detach"];
    if version(host) < (1, 5) {
        words.extend(["-var", "datacenters=[\"dc1\"]"]);
    }
    words.extend(variables.iter().flat_map(|variable| ["-var", variable]));
    words.push("-");
    host.nomad.cli(&words, &deploy(file)).ok();
}

/// The ids of the allocations of Steppe that run, by group.
fn allocs(host: &Host) -> Result<BTreeMap<String, String>, String> {
    let of =
        |part: &&str| Ok((part.to_string(), text(&host.nomad.running("steppe", part)?["ID"]).to_owned()));
    PARTS.iter().map(of).collect()
}

/// Waits until all parts run and `steppe status` has nothing to complain of.
fn wait_whole(host: &Host) -> BTreeMap<String, String> {
    eventually(PLACED, "Steppe is whole", || {
        let running = allocs(host)?;
        let status = host.steppe(&["status"]);
        if status.code == 0 { Ok(running) } else { Err(status.stdout + &status.stderr) }
    })
}

#[test]
fn installed_used_upgraded_under_load_and_removed_without_a_trace() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.start_nomad();
    let version = load_images(a);
    // What it finds is what it must leave, and Docker's own rules with it.
    a.sh("rm -rf /run/steppe").ok();
    let other = a.docker.run(Run::serve("other", 80));
    let before = traces(a);
    run(a, "system.hcl", &[CONTAINERS]);
    let first = wait_whole(a);

    let service = web_service("", "");
    let probe = ["serve", "--port", "80", "--name", "web"];
    let config = "ports = [\"http\"]";
    a.nomad.run(&Job { name: "web", host: "a", group: PORT, task: &service, config, probe: &probe }.hcl());
    let task = "service {\n  name = \"api\"\n  tags = [\"connect_to=web:80\"]\n}";
    a.nomad.run(&Job { name: "api", host: "a", task, probe: &["wait"], ..Job::default() }.hcl());
    let to = web(a);
    let api = container(a, "api", &running(a, "api"));
    assert_eq!(reaches(&api, to), "web");
    let explained = a.steppe(&["explain", "api", "web:80"]);
    assert_eq!(explained.code, 0, "{}{}", explained.stdout, explained.stderr);
    let resolvers = || api.exec(&["cat", "/etc/resolv.conf"]).ok();
    eventually(SOON, "api asks dns", || {
        Some(resolvers()).filter(|text| text.contains("169.254.77.53")).ok_or("not yet")
    });
    let stranger = a.docker.run(Run::idle("stranger"));
    eventually(SOON, "the stranger is known", || match stranger.connect(to).outcome {
        Outcome::Refused => Ok(()),
        other => Err(other),
    });

    // One part after the other, each alone, and nobody notices.
    let load = Load::start("web", &api, to);
    let (mut variables, mut running) = (vec![CONTAINERS.to_owned()], first);
    for part in PARTS {
        load.wait_more(200, PLACED);
        variables.push(format!("{}_version=next", part.replace('-', "_")));
        run(a, "system.hcl", &variables.iter().map(String::as_str).collect::<Vec<_>>());
        let now = eventually(PLACED, &format!("another {part} runs"), || {
            let now = allocs(a)?;
            if now[part] == running[part] { Err(format!("{now:?}")) } else { Ok(now) }
        });
        let replaced: Vec<_> = PARTS.iter().filter(|part| now[**part] != running[**part]).collect();
        assert_eq!(replaced, [&part], "{now:?} instead of {running:?}");
        running = wait_whole(a);
        refused(&stranger, to);
    }
    load.wait_more(200, PLACED);
    let tally = load.finish();
    println!("{tally}");
    assert_eq!(tally.lost().count(), 0, "{tally}");

    a.nomad.cli(&["job", "stop", "-detach", "-purge", "steppe"], "").ok();
    eventually(PLACED, "Steppe has stopped", || allocs(a).err().map_or_else(|| Err("it runs"), |_| Ok(())));
    purge(a, &version);
    assert_eq!(traces(a), before);
    assert_eq!(resolvers(), a.sh("cat /etc/resolv.conf").ok());
    assert!(other.connect((other.address(), 80)).outcome.is_ok());
    cluster.assert_no_leak();
}

/// By the job, or before Nomad had such jobs by hand, as the job's file says.
fn purge(host: &Host, image: &str) {
    if version(host) < (1, 2) {
        let command = deploy("purge.hcl");
        let lines = command.lines().skip_while(|line| !line.contains("docker run")).take(2);
        let command: Vec<_> =
            lines.map(|line| line.trim_start_matches(['#', ' ']).trim_end_matches('\\')).collect();
        eventually(PLACED, "everything is removed", || {
            let purged = host.sh(&command.join(" ").replacen("/var/lib/docker/containers", DATA, 1));
            if purged.code == 0 { Ok(()) } else { Err(purged.stdout + &purged.stderr) }
        });
        return;
    }
    run(host, "purge.hcl", &[CONTAINERS, &format!("netfilter_agent_version={image}")]);
    eventually(PLACED, "everything is removed", || {
        let allocs = host.nomad.call("GET", "/v1/job/steppe-purge/allocations", &Value::Null);
        match text(&allocs[0]["ClientStatus"]) {
            "complete" => Ok(()),
            _ => Err(allocs.to_string()),
        }
    });
}

/// What an uninstalled Steppe must not have changed.
fn traces(host: &Host) -> String {
    host.sh("nft list tables | sort; ip -br addr show lo; ip route show table all type unreachable; iptables -S DOCKER-USER; \
             ls -d /run/steppe 2>&1")
        .stdout
}
