//! `steppe network`: users' networks on this host.

use std::fmt::Write as _;

use serde::Serialize;
use steppe_api::v1::{
    ListNetfilterNetworksRequest, ListUserNetworksRequest, Network as NetworkInForce, UserNetwork,
};
use steppe_explain::{Away, Declined, Paint, Style, Suite, clean};
use steppe_model::UserName;

use crate::{
    status::NobodyAnswers,
    table::{Cell, Table},
};

/// Exit codes of orders.
const DONE: u8 = 0;
const DECLINED: u8 = 1;
const CANT_TELL: u8 = 4;

/// The networks of this host.
#[derive(Debug, Serialize)]
pub(crate) struct Networks {
    networks: Vec<Row>,
    /// What could not be asked, and what to do about it.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    user: String,
    /// The Docker network; empty when control is down.
    name: String,
    /// Empty while there is no network.
    subnet: String,
    bridge: String,
    /// The containers that name it, running or not; unknown with control down.
    attached: Option<Vec<String>>,
    /// What was in the way of the usual addresses; empty when it has those.
    moved: String,
    /// Why there is none; empty when there is one.
    problem: String,
    /// Why it stays although nothing is attached: `needed`, `ensured` or empty.
    kept: &'static str,
}

/// Asks control, else the netfilter-agent.
///
/// # Errors
/// When neither answers.
pub(crate) async fn list(suite: &Suite) -> Result<Networks, NobodyAnswers> {
    let away = match suite.user_networks(ListUserNetworksRequest {}).await {
        Ok(answer) => {
            let networks = answer.networks.into_iter().map(planned).collect();
            return Ok(Networks { networks, notes: Vec::new() });
        }
        Err(away) => away,
    };
    match suite.networks(ListNetfilterNetworksRequest {}).await {
        Ok(answer) => Ok(Networks {
            networks: answer.networks.into_iter().map(in_force).collect(),
            notes: vec![format!("{away}: {}", away.fix())],
        }),
        Err(_) => Err(NobodyAnswers::from(away)),
    }
}

fn planned(network: UserNetwork) -> Row {
    Row {
        user: network.user,
        name: network.name,
        subnet: network.subnet,
        bridge: network.bridge,
        attached: Some(network.attached),
        moved: network.moved,
        problem: network.problem,
        kept: match (network.needed, network.ensured) {
            (true, _) => "needed",
            (false, true) => "ensured",
            (false, false) => "",
        },
    }
}

fn in_force(network: NetworkInForce) -> Row {
    Row {
        user: network.user,
        name: String::new(),
        subnet: network.subnet,
        bridge: network.bridge,
        attached: None,
        moved: String::new(),
        problem: String::new(),
        kept: "",
    }
}

impl Networks {
    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut table = Table::new(&["USER", "SUBNET", "BRIDGE", "KEPT", "ATTACHED"]);
        for row in &self.networks {
            let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let attached =
                row.attached.as_ref().map_or_else(|| "?".to_owned(), |names| or_dash(&names.join(",")));
            let mut cells: Vec<Cell> =
                [&row.user, &row.subnet, &row.bridge, row.kept].map(|text| or_dash(text).into()).into();
            cells.push(attached.into());
            if !row.problem.is_empty() {
                cells.push(Cell::styled(&format!("no network: {}", row.problem), Style::Bad));
            } else if !row.moved.is_empty() {
                let why = format!("other addresses than on other hosts, in the way: {}", row.moved);
                cells.push(Cell::styled(&why, Style::Bad));
            }
            table.row(cells);
        }
        let mut text = if self.networks.is_empty() {
            "no user has a network here\n".to_owned()
        } else {
            table.render(paint)
        };
        for note in &self.notes {
            let _ = writeln!(text, "{}", clean(note));
        }
        text
    }
}

/// What came of an order.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    user: String,
    done: bool,
    /// What there is now, or why nothing was done.
    says: String,
    #[serde(skip)]
    code: u8,
}

/// Makes a user's network and keeps it.
pub(crate) async fn ensure(suite: &Suite, user: &UserName) -> Done {
    let ensured = suite.ensure_network(user.as_str()).await;
    Done::new(user, ensured.map(|made| made.map(|network| format!("{}, {}", network.name, network.subnet))))
}

/// Removes a user's network.
pub(crate) async fn remove(suite: &Suite, user: &UserName) -> Done {
    let removed = suite.remove_network(user.as_str()).await;
    Done::new(user, removed.map(|gone| gone.map(|()| "removed".to_owned())))
}

impl Done {
    fn new(user: &UserName, answer: Result<Result<String, Declined>, Away>) -> Self {
        let (code, says) = match answer {
            Ok(Ok(says)) => (DONE, says),
            Ok(Err(Declined(why))) => (DECLINED, why),
            Err(away) => (CANT_TELL, format!("{away}: {}", away.fix())),
        };
        Self { user: user.to_string(), done: code == DONE, says, code }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let (word, style) = if self.done { ("ok  ", Style::Good) } else { ("FAIL", Style::Bad) };
        format!("{} {}: {}\n", paint.with(style, word), clean(&self.user), clean(&self.says))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_who_is_attached_and_what_is_wrong() {
        let network = |user: &str, subnet: &str| UserNetwork {
            user: user.to_owned(),
            subnet: subnet.to_owned(),
            bridge: format!("steppe-{user}"),
            ..UserNetwork::default()
        };
        let mut alice = network("alice", "10.216.237.0/24");
        alice.attached = vec!["api".to_owned(), "db".to_owned()];
        alice.needed = true;
        let mut bob = network("bob", "");
        bob.problem = "something is in the way".to_owned();
        let mut carol = network("carol", "10.208.1.0/24");
        (carol.moved, carol.ensured) = ("route 10.208.0.0/24 dev eth1".to_owned(), true);
        let networks =
            Networks { networks: [alice, bob, carol].map(planned).into(), notes: vec!["a note".to_owned()] };
        let text = networks.render(Paint::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "USER   SUBNET           BRIDGE        KEPT     ATTACHED");
        assert_eq!(lines[1], "alice  10.216.237.0/24  steppe-alice  needed   api,db");
        assert!(lines[2].ends_with("-         no network: something is in the way"), "{text}");
        assert!(
            lines[3].contains("ensured  -         other addresses than on other hosts, in the way: route"),
            "{text}"
        );
        assert_eq!(lines[4], "a note");
        let none = Networks { networks: Vec::new(), notes: Vec::new() };
        assert_eq!(none.render(Paint::Plain), "no user has a network here\n");
    }
}
