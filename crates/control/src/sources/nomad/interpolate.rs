//! `${…}` in names, tags and meta, as Nomad's client replaces it
//! (<https://developer.hashicorp.com/nomad/docs/runtime/interpolation>).

use std::collections::BTreeMap;

/// What stands for what.
#[derive(Debug, Clone, Default)]
pub(super) struct Env(BTreeMap<String, String>);

impl Env {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// What a job's id and namespace give.
    pub(super) fn set_job(&mut self, id: &str, namespace: &str) {
        self.set("NOMAD_JOB_ID", id);
        self.set("NOMAD_NAMESPACE", namespace);
    }

    /// A key of the meta, under the names that Nomad gives it.
    pub(super) fn set_meta(&mut self, key: &str, value: &str) {
        self.set(&format!("NOMAD_META_{key}"), value);
        self.set(&format!("NOMAD_META_{}", key.to_uppercase()), value);
    }

    /// The text with everything replaced; `None` when something in it is not known here.
    pub(super) fn replace(&self, text: &str) -> Option<String> {
        let mut done = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            done.push_str(before);
            match after.split_once('}').filter(|(name, _)| is_name(name)) {
                Some((name, after)) => {
                    done.push_str(self.0.get(name)?);
                    rest = after;
                }
                // No reference: Nomad leaves it as it is.
                None => {
                    done.push_str("${");
                    rest = after;
                }
            }
        }
        done.push_str(rest);
        Some(done)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_or_leave_the_text_out() {
        let mut env = Env::default();
        env.set("JOB", "api");
        env.set_meta("color", "red");
        for (text, expected) in [
            ("plain", Some("plain")),
            ("${JOB}-db:${NOMAD_META_color}", Some("api-db:red")),
            ("${NOMAD_META_COLOR}", Some("red")),
            ("${JOB}${nobody}", None),
            ("${} ${a b} $JOB ${JOB", Some("${} ${a b} $JOB ${JOB")),
            ("${${JOB}}", Some("${api}")),
        ] {
            assert_eq!(env.replace(text).as_deref(), expected, "{text}");
        }
    }
}
