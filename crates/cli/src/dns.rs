//! `steppe dns query`: what a workload would be told of a name, and why.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;
use steppe_api::v1::{QueryRequest, QueryResponse, QuestionResult};
use steppe_explain::{AwayKind, Paint, Style, Suite, Unknown, asker, clean};
use steppe_model::resolv_conf::ZONE;

/// dns gives the host's resolvers 4 s.
const DEADLINE: Duration = Duration::from_secs(5);

/// The exit codes: as `steppe explain`'s.
const ANSWERED: u8 = 0;
const NO_SUCH_NAME: u8 = 1;
const USAGE: u8 = 2;
const CANT_TELL: u8 = 4;

/// What it is told.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    /// The exit code, for whoever reads the JSON alone.
    exit_code: u8,
    workload: String,
    /// Where it asks from; empty when that is not known.
    ip: String,
    /// The name that was asked last, and the record type.
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// Such as `NOERROR`; empty when nobody answered.
    rcode: String,
    records: Vec<String>,
    /// How the question ended, such as `service`; empty when nobody answered.
    result: &'static str,
    reason: String,
    took_ms: f64,
}

/// Asks dns on behalf of a workload, as its resolver library would: first the name as it is, and where there is none and it is not
/// all of it, with the search domain.
pub(crate) async fn query(suite: &Suite, workload: &str, name: &str, kind: &str) -> Told {
    let mut told = Told {
        exit_code: CANT_TELL,
        workload: workload.to_owned(),
        ip: String::new(),
        name: name.to_owned(),
        kind: kind.to_ascii_uppercase(),
        rcode: String::new(),
        records: Vec::new(),
        result: "",
        reason: String::new(),
        took_ms: 0.0,
    };
    let asker = match asker(suite, workload).await {
        Ok(asker) => asker,
        Err(unknown) => {
            (told.exit_code, told.reason) = match unknown {
                Unknown::Senseless(reason) => (USAGE, reason),
                Unknown::Nobody(reason) => (CANT_TELL, reason),
                Unknown::Away(away) => (CANT_TELL, format!("{}: {}", away.short(), away.fix())),
            };
            return told;
        }
    };
    (told.workload, told.ip) = (asker.name, asker.ip.to_string());
    for candidate in candidates(name) {
        let request =
            QueryRequest { ip: told.ip.clone(), name: candidate.clone(), r#type: told.kind.clone() };
        match suite.dns_query(request, DEADLINE).await {
            Ok(answer) => {
                let is_answer = !answer.records.is_empty();
                if told.rcode.is_empty() || is_answer {
                    told.take(candidate, answer);
                }
                if is_answer || told.exit_code == CANT_TELL {
                    break;
                }
            }
            Err(away) => {
                // dns knows best what a name is, and a record type.
                let senseless = match &away.kind {
                    AwayKind::Failed(why) => why.strip_prefix("InvalidArgument: "),
                    _ => None,
                };
                (told.exit_code, told.reason) = match senseless {
                    Some(why) => (USAGE, why.to_owned()),
                    None => (CANT_TELL, format!("{}: {}", away.short(), away.fix())),
                };
                break;
            }
        }
    }
    told
}

/// The names to ask for, in order (resolv.conf(5): `search`, `ndots:1`).
fn candidates(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    let bare = name.to_ascii_lowercase();
    if bare.contains('.') && !bare.ends_with('.') && !bare.ends_with(&format!(".{ZONE}")) {
        names.push(format!("{name}.{ZONE}"));
    }
    names
}

impl Told {
    fn take(&mut self, name: String, answer: QueryResponse) {
        self.result = word(answer.result());
        self.exit_code = match answer.result() {
            _ if !answer.records.is_empty() => ANSWERED,
            QuestionResult::Failed | QuestionResult::Refused | QuestionResult::Limited => CANT_TELL,
            QuestionResult::Unspecified => CANT_TELL,
            // A resolver that could not find out has said nothing.
            _ if !matches!(&*answer.rcode, "NOERROR" | "NXDOMAIN") => CANT_TELL,
            _ => NO_SUCH_NAME,
        };
        self.name = name;
        self.rcode = answer.rcode;
        self.records = answer.records;
        self.reason = answer.reason;
        self.took_ms = answer.took_ms;
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let (word, style) = match self.exit_code {
            ANSWERED => (self.rcode.as_str(), Style::Good),
            NO_SUCH_NAME => (self.rcode.as_str(), Style::Bad),
            _ if self.rcode.is_empty() => ("can't tell", Style::Doubtful),
            _ => (self.rcode.as_str(), Style::Doubtful),
        };
        let who = if self.ip.is_empty() || self.ip == self.workload {
            self.workload.clone()
        } else {
            format!("{} ({})", self.workload, self.ip)
        };
        let mut text = format!(
            "{}  {} asks {} {}: {}\n",
            paint.with(style, word),
            clean(&who),
            clean(&self.name),
            clean(&self.kind),
            clean(&self.reason)
        );
        for record in &self.records {
            let _ = writeln!(text, "{}", clean(record));
        }
        text
    }
}

fn word(result: QuestionResult) -> &'static str {
    match result {
        QuestionResult::Unspecified => "",
        QuestionResult::Service => "service",
        QuestionResult::Member => "member",
        QuestionResult::NoName => "no name",
        QuestionResult::Forwarded => "forwarded",
        QuestionResult::Cached => "cached",
        QuestionResult::Failed => "failed",
        QuestionResult::Refused => "refused",
        QuestionResult::Limited => "limited",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_as_a_resolver_library_does() {
        assert_eq!(candidates("web"), ["web"]);
        assert_eq!(candidates("pg.bob"), ["pg.bob", "pg.bob.steppe.internal"]);
        assert_eq!(candidates("pg.bob."), ["pg.bob."]);
        assert_eq!(candidates("Web.Steppe.Internal"), ["Web.Steppe.Internal"]);
    }
}
