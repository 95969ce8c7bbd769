//! Whether a Nomad token can read what control reads. Nomad does not refuse a listing of allocations to a token that
//! sees only some namespaces: it leaves the others out. So the policies are read.

use serde_json::Value;

use super::http::Server;
use crate::doctor::facts::Acl;

const NODE: &str = r#"node { policy = "read" }"#;
const AGENT: &str = r#"agent { policy = "read" }"#;
const NAMESPACES: &str = r#"namespace "*" { capabilities = ["read-job"] }"#;

pub(super) async fn ask(server: &Server) -> Acl {
    let token = match server.get("/v1/acl/token/self").await {
        Ok(token) => token,
        Err(error) => return Acl::Unknown(error.into()),
    };
    if token["Type"] == "management" {
        return Acl::Management;
    }
    let mut rules = Vec::new();
    for policy in token["Policies"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        match server.get(&format!("/v1/acl/policy/{policy}")).await {
            Ok(policy) => rules.push(policy["Rules"].as_str().unwrap_or_default().to_owned()),
            Err(error) => return Acl::Unknown(error.into()),
        }
    }
    Acl::Lacks(lacks(&rules))
}

/// What no policy grants.
fn lacks(rules: &[String]) -> Vec<&'static str> {
    let policies: Vec<String> = rules.iter().map(|text| plain(text)).collect();
    let reads = |block: &str| block.contains("policy=read") || block.contains("policy=write");
    let any = |name: &str, granted: &dyn Fn(&str) -> bool| {
        policies.iter().any(|text| blocks(text, name).any(|block| granted(&block)))
    };
    let mut lacks = Vec::new();
    if !any("node", &reads) {
        lacks.push(NODE);
    }
    if !any("agent", &reads) {
        lacks.push(AGENT);
    }
    if !any("namespace*", &|block| reads(block) || block.contains("read-job")) {
        lacks.push(NAMESPACES);
    }
    lacks
}

/// HCL or JSON without comments, blanks and quotation marks, and with `=` for `:`, so that both look alike.
fn plain(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let lines = lines.map(|line| line.split('#').next().unwrap_or_default());
    let text: String = lines.collect::<Vec<_>>().join("\n");
    let kept = text.chars().filter(|c| !c.is_whitespace() && *c != '"');
    kept.map(|c| if c == ':' { '=' } else { c }).collect::<String>().replace("namespace={*", "namespace*")
}

/// The contents of the blocks with this name.
fn blocks<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    text.match_indices(name).filter_map(move |(at, _)| {
        let rest = text[at + name.len()..].trim_start_matches('=');
        let end = rest.find('}')?;
        rest[..end].strip_prefix('{').map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(rules: &[&str]) -> Vec<&'static str> {
        lacks(&rules.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_policy_that_is_delivered_is_enough() {
        assert!(lacking(&[include_str!("../../../../../deploy/nomad/policy.hcl")]).is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(lacking(&[]), [NODE, AGENT, NAMESPACES]);
        assert_eq!(lacking(&[r#"node { policy = "read" } agent { policy = "write" }"#]), [NAMESPACES]);
        let default = r#"namespace "default" { policy = "write" }  # namespace "*" { policy = "read" }"#;
        assert!(lacking(&[default]).contains(&NAMESPACES));
        assert!(lacking(&[r#"namespace "*" { capabilities = ["list-jobs"] }"#]).contains(&NAMESPACES));
        assert!(!lacking(&[r#"namespace "*" { policy = "read" }"#]).contains(&NAMESPACES));
        assert!(lacking(&[r#"node { policy = "deny" }"#]).contains(&NODE));
    }

    #[test]
    fn json_is_read_too() {
        let json = r#"{"namespace": {"*": {"capabilities": ["read-job"]}}, "node": {"policy": "read"}, "agent": {"policy": "read"}}"#;
        assert!(lacking(&[json]).is_empty());
    }
}
