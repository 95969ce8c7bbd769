//! What the world demands of a host's Steppe, and whether it is in force everywhere: in the kernel, in the proxy, and in what
//! people are told. What is demanded is said by the test, not taken from Steppe.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use steppe_testbed::{Container, Host, eventually};

/// Exit codes of `steppe explain`.
const YES: i32 = 0;
const REFUSED: i32 = 1;
const BROKEN: i32 = 3;
const CANT_TELL: i32 = 4;

/// Services with their instances and who may reach them, and all containers that have an address of their own.
#[derive(Debug, Clone, Default)]
pub struct World {
    services: BTreeMap<String, Demanded>,
    workloads: BTreeMap<String, (Ipv4Addr, String)>,
}

#[derive(Debug, Clone, Default)]
struct Demanded {
    endpoints: BTreeSet<SocketAddr>,
    clients: BTreeMap<String, Ipv4Addr>,
}

/// A listener of the proxy, as it says itself.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its new connections go.
    pub endpoints: BTreeSet<SocketAddr>,
    /// Those that get none for a while because they failed.
    pub ejected: Vec<SocketAddr>,
    /// Who may use it.
    pub clients: BTreeSet<Ipv4Addr>,
}

impl World {
    /// A container that runs.
    pub fn workload(&mut self, container: &Container) -> &mut Self {
        self.workloads.insert(container.name.clone(), (container.address(), container.mac()));
        self
    }

    /// A healthy instance of a service, and where it is dialled.
    pub fn endpoint(&mut self, service: &str, at: SocketAddr) -> &mut Self {
        self.services.entry(service.to_owned()).or_default().endpoints.insert(at);
        self
    }

    /// A container that may reach a service, at port 80.
    pub fn grant(&mut self, client: &Container, service: &str) -> &mut Self {
        let service = self.services.entry(service.to_owned()).or_default();
        service.clients.insert(client.name.clone(), client.address());
        self.workload(client)
    }

    /// A container that is gone, with all its rights and what it provided at its own address.
    pub fn forget(&mut self, container: &str) -> &mut Self {
        let gone = self.workloads.remove(container);
        for service in self.services.values_mut() {
            service.clients.remove(container);
            service.endpoints.retain(|at| gone.as_ref().is_none_or(|(ip, _)| at.ip() != *ip));
        }
        self
    }

    /// Waits until all of it is in force, and nothing else.
    #[track_caller]
    pub fn wait(&self, host: &Host, deadline: Duration) {
        eventually(deadline, &format!("host {} is as the world demands", host.name), || self.compare(host));
    }

    /// Whether all of it is in force, and nothing else.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, host: &Host) -> Result<(), String> {
        self.compare_in_force(host)?;
        self.compare_explanations(host, REFUSED)
    }

    /// The same while a source is not heard, and so nobody can tell whether there are more grants.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare_while_deaf(&self, host: &Host) -> Result<(), String> {
        self.compare_in_force(host)?;
        self.compare_explanations(host, CANT_TELL)
    }

    fn compare_in_force(&self, host: &Host) -> Result<(), String> {
        let granted = || self.services.iter().filter(|(_, demanded)| !demanded.clients.is_empty());
        let told: Value = json(&host.steppe(&["services", "--json"]).stdout)?;
        let told = items(&told["services"]);
        let names: BTreeSet<_> = told.iter().map(|service| text(&service["service"])).collect();
        same("steppe services", &names, &granted().map(|(name, _)| name.clone()).collect())?;
        let mut vips = BTreeMap::new();
        for service in &told {
            let name = text(&service["service"]);
            let demanded = &self.services[&name];
            let counts = [&service["up"], &service["grants"]].map(|count| count.as_u64().unwrap_or(u64::MAX));
            let wanted = [demanded.endpoints.len(), demanded.clients.len()].map(|count| count as u64);
            same(&format!("instances and grants of {name}"), &counts, &wanted)?;
            vips.insert(name, text(&service["vip"]));
        }

        let clients = granted()
            .flat_map(|(name, demanded)| demanded.clients.values().map(move |client| (name, client)))
            .map(|(name, client)| format!("{client} {} tcp 80", vips[name]));
        same("set grants", &elements(host, "inet", "set", "grants")?, &clients.collect())?;
        let bound = elements(host, "bridge", "set", "bindings")?;
        let bound: BTreeSet<_> =
            bound.iter().filter_map(|element| Some(element.split_once(' ')?.1.to_owned())).collect();
        let workloads = self.workloads.values().map(|(ip, mac)| format!("{mac} {ip}"));
        same("set bindings", &bound, &workloads.collect())?;

        let listeners = listeners(host)?;
        let served = granted().filter(|(_, demanded)| !demanded.endpoints.is_empty());
        let served: BTreeMap<_, _> = served.collect();
        same("set vips", &elements(host, "inet", "set", "vips")?, &vips.values().cloned().collect())?;
        same("listeners", &listeners.keys().collect(), &served.keys().copied().collect::<BTreeSet<_>>())?;
        let mut rules = BTreeSet::new();
        for (name, listener) in &listeners {
            let demanded = served[name];
            same(&format!("endpoints of {name}"), &listener.endpoints, &demanded.endpoints)?;
            let clients = demanded.clients.values().copied().collect();
            same(&format!("clients of {name}"), &listener.clients, &clients)?;
            let (ip, port) = (listener.address.ip(), listener.address.port());
            rules.insert(format!("{} tcp 80 {ip} {port}", vips[name]));
        }
        same("map listeners", &elements(host, "inet", "map", "listeners")?, &rules)?;
        let sockets = host.sh("ss -Hltn src 169.254.77.54").ok();
        let sockets = sockets.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse().ok());
        let wanted = listeners.values().map(|listener| listener.address).collect();
        same("listening sockets", &sockets.collect::<BTreeSet<SocketAddr>>(), &wanted)
    }

    /// Whether `steppe explain` gives for each pair the exit code that is due.
    fn compare_explanations(&self, host: &Host, without_grant: i32) -> Result<(), String> {
        for workload in self.workloads.keys() {
            for (service, demanded) in &self.services {
                let due = match (demanded.clients.contains_key(workload), demanded.endpoints.is_empty()) {
                    (true, false) => YES,
                    (true, true) => BROKEN,
                    (false, _) => without_grant,
                };
                let explained = host.steppe(&["explain", workload, &format!("{service}:80")]);
                let why = || format!("{}{}", explained.stdout, explained.stderr);
                same("explain's exit code", &explained.code, &due).map_err(|e| format!("{e}\n{}", why()))?;
            }
        }
        Ok(())
    }
}

/// The proxy's listener for a service.
pub fn listener(host: &Host, service: &str) -> Option<Listener> {
    listeners(host).ok()?.remove(service)
}

/// The proxy's listeners, by service.
///
/// # Errors
/// When the proxy doesn't answer.
pub fn listeners(host: &Host) -> Result<BTreeMap<String, Listener>, String> {
    let answer = host.grpcurl(&host.suite.proxy, &["-d", "{}"], &["steppe.v1.Proxy/ListListeners"]);
    if answer.code != 0 {
        return Err(answer.stderr);
    }
    let listeners = items(&json(&answer.stdout)?["listeners"]).into_iter().map(|told| {
        let listener = &told["listener"];
        let ejected = items(&told["endpoints"]).into_iter().filter(|e| e.get("ejectedForMs").is_some());
        let parsed = Listener {
            address: address(&listener["address"])?,
            endpoints: items(&listener["endpoints"])
                .iter()
                .map(|endpoint| address(&endpoint["address"]))
                .collect::<Result<_, _>>()?,
            ejected: ejected.map(|e| address(&e["address"])).collect::<Result<_, _>>()?,
            clients: items(&told["clients"]).iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect(),
        };
        Ok((text(&listener["service"]["name"]), parsed))
    });
    listeners.collect()
}

/// The elements of a set or map of table `steppe` in the kernel, their parts joined by blanks.
fn elements(host: &Host, family: &str, kind: &str, name: &str) -> Result<BTreeSet<String>, String> {
    let listed = host.exec("nft", &["-j", "list", kind, family, "steppe", name]);
    if listed.code != 0 {
        return Err(listed.stderr);
    }
    let listed = json(&listed.stdout)?;
    let set = items(&listed["nftables"]).into_iter().find_map(|item| item.get(kind).cloned());
    let set = set.ok_or_else(|| listed.to_string())?;
    Ok(items(&set["elem"]).iter().map(|element| parts(element).join(" ")).collect())
}

/// What nft's JSON wraps an element's parts in depends on whether it has a counter, a comment or data.
fn parts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(parts_of).collect(),
        other => parts_of(other),
    }
}

fn parts_of(value: &Value) -> Vec<String> {
    match value {
        Value::Object(object) => ["elem", "val", "concat"]
            .iter()
            .find_map(|key| object.get(*key))
            .map_or_else(|| vec![value.to_string()], parts),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what}: {is:?} instead of {should:?}")) }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn address(value: &Value) -> Result<SocketAddr, String> {
    let ip = text(&value["ip"]).parse::<Ipv4Addr>().map_err(|error| format!("{error}: {value}"))?;
    let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok((ip, port.ok_or_else(|| value.to_string())?).into())
}
