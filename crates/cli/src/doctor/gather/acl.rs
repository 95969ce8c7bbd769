//! Whether a Nomad token can read what control reads. Nomad does not refuse a listing of allocations to a token that
//! sees only some namespaces: it leaves the others out. So the policies are read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http::{Failure, Server};
use crate::doctor::facts::Acl;

const NODE: &str = r#"node { policy = "read" }"#;
const AGENT: &str = r#"agent { policy = "read" }"#;
const NAMESPACES: &str = r#"namespace "*" { capabilities = ["list-jobs", "read-job"] }"#;

/// What the block above names.
const CAPABILITIES: [&str; 2] = ["list-jobs", "read-job"];

pub(super) async fn ask(server: &Server) -> Acl {
    let token = match server.get("/v1/acl/token/self").await {
        Ok(token) => token,
        Err(error) => return Acl::Unknown(error.into()),
    };
    if token["Type"] == "management" {
        return Acl::Management;
    }
    match rules(server, &token).await {
        Ok(rules) => Acl::Lacks(lacks(&rules)),
        Err(error) => Acl::Unknown(error.into()),
    }
}

/// What the token's policies say: its own, and since Nomad 1.4 those of its roles.
async fn rules(server: &Server, token: &Value) -> Result<Vec<String>, Failure> {
    let list = |value: &Value, of: fn(&Value) -> &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| of(one).as_str()).map(str::to_owned).collect()
    };
    let mut names: BTreeSet<String> = list(&token["Policies"], |name| name).into_iter().collect();
    for role in list(&token["Roles"], |role| &role["ID"]) {
        let role = server.get(&format!("/v1/acl/role/{role}")).await?;
        names.extend(list(&role["Policies"], |policy| &policy["Name"]));
    }
    let mut rules = Vec::new();
    for name in names {
        let policy = server.get(&format!("/v1/acl/policy/{name}")).await?;
        rules.push(policy["Rules"].as_str().unwrap_or_default().to_owned());
    }
    Ok(rules)
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
    if !any("namespace*", &|block| reads(block) || CAPABILITIES.iter().all(|one| block.contains(one))) {
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
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
    };

    use serde_json::json;

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
        for half in ["list-jobs", "read-job"] {
            let text = format!(r#"namespace "*" {{ capabilities = ["{half}"] }}"#);
            assert!(lacking(&[&text]).contains(&NAMESPACES), "{half}");
        }
        assert!(!lacking(&[r#"namespace "*" { policy = "read" }"#]).contains(&NAMESPACES));
        assert!(lacking(&[r#"node { policy = "deny" }"#]).contains(&NODE));
    }

    /// Answers as Nomad 1.4 and later do for a token that has its policy by a role alone.
    fn serve(listener: TcpListener) {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            let policy = json!({ "Rules": include_str!("../../../../../deploy/nomad/policy.hcl") });
            let answer = match request.split(' ').nth(1).unwrap() {
                "/v1/acl/token/self" => {
                    json!({ "Type": "client", "Policies": null, "Roles": [{ "ID": "77c5", "Name": "reader" }] })
                }
                "/v1/acl/role/77c5" => json!({ "ID": "77c5", "Policies": [{ "Name": "steppe-control" }] }),
                "/v1/acl/policy/steppe-control" => policy,
                other => panic!("{other}"),
            };
            let body = answer.to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_policy_that_comes_by_a_role_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || serve(listener));
        let server = Server::nomad(&address, |_| None).unwrap();
        let acl = ask(&server).await;
        assert!(matches!(&acl, Acl::Lacks(lacks) if lacks.is_empty()), "{acl:?}");
    }

    #[test]
    fn json_is_read_too() {
        let json = r#"{"namespace": {"*": {"capabilities": ["list-jobs", "read-job"]}}, "node": {"policy": "read"}, "agent": {"policy": "read"}}"#;
        assert!(lacking(&[json]).is_empty());
    }
}
