//! Services in Consul's catalogue, on a node that has no agent: nobody but us changes them.

use serde_json::{Value, json};
use steppe_testbed::Consul;

/// Operations in one transaction (Consul's limit is 64).
const TOGETHER: usize = 64;
const NODE: &str = "elsewhere";
/// Endpoints of a service are told apart by their ports; the first one's is not used by the others.
const FIRST_PORT: usize = 10_000;

/// The catalogue, filled.
#[derive(Debug)]
pub struct Catalogue<'a>(&'a Consul);

/// The nth service's name.
pub fn name(nth: usize) -> String {
    format!("s{nth:05}")
}

/// An address of its own, which nobody dials.
fn address(nth: usize) -> String {
    format!("10.99.{}.{}", nth / 250, 1 + nth % 250)
}

fn service(nth: usize, endpoint: usize, port: usize) -> Value {
    let name = name(nth);
    json!({
        "ID": format!("{name}-{endpoint}"), "Service": name, "Address": address(nth), "Port": port,
        "Weights": { "Passing": 1, "Warning": 1 },
    })
}

impl<'a> Catalogue<'a> {
    /// Registers them all.
    pub fn fill(server: &'a Consul, services: usize, endpoints: usize) -> Self {
        let node = json!({ "Node": NODE, "Address": "10.99.255.1" });
        server.call("PUT", "/v1/catalog/register", &node);
        let all = (0..services).flat_map(|nth| (0..endpoints).map(move |endpoint| (nth, endpoint)));
        let operations: Vec<Value> = all
            .map(|(nth, endpoint)| {
                let service = service(nth, endpoint, FIRST_PORT + endpoint);
                json!({ "Service": { "Verb": "set", "Node": NODE, "Service": service } })
            })
            .collect();
        for operations in operations.chunks(TOGETHER) {
            server.call("PUT", "/v1/txn", &operations.into());
        }
        Self(server)
    }

    /// Moves a service's first endpoint to another port.
    pub fn change(&self, nth: usize, port: u16) {
        let service = service(nth, 0, port.into());
        let body =
            json!({ "Node": NODE, "Address": "10.99.255.1", "SkipNodeUpdate": true, "Service": service });
        self.0.call("PUT", "/v1/catalog/register", &body);
    }
}
