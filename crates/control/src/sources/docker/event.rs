//! Docker's events, as far as they matter: <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemEvents>.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bollard::models::{EventMessage, EventMessageTypeEnum};

use super::convert::{kept_labels, name_without_slash};
use crate::sources::warn_once::WarnOnce;

/// The events that are asked for. Docker compares them as beginnings once `health_status` is among them.
pub(super) fn filters() -> HashMap<String, Vec<String>> {
    let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    HashMap::from([
        ("type".to_owned(), list(&["container", "network"])),
        (
            "event".to_owned(),
            list(&["create", "start", "die", "destroy", "rename", "health_status", "connect", "disconnect"]),
        ),
    ])
}

/// Something has happened; what the world is like now is asked afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A container was made; it has no address yet.
    Created { id: Arc<str>, name: Arc<str>, labels: BTreeMap<String, String> },
    /// A container's process runs.
    Started { id: Arc<str> },
    /// A container's process has ended.
    Ended { id: Arc<str> },
    /// Something else about a container has changed.
    Changed { id: Arc<str> },
    /// A container is gone for good.
    Destroyed { id: Arc<str> },
    /// A container has got an address on a network.
    Connected { network: Arc<str>, id: Arc<str> },
    /// A container has lost its address on a network.
    Disconnected { network: Arc<str>, id: Arc<str> },
    /// A network is gone.
    NetworkDestroyed { network: Arc<str> },
}

impl Event {
    /// None when the event is of no interest, or lacks what such an event has.
    pub(super) fn read(message: EventMessage, odd: &mut WarnOnce) -> Option<Self> {
        let kind = message.typ?;
        let action = message.action?;
        let actor = message.actor?;
        let id: Arc<str> = actor.id.filter(|id| !id.is_empty())?.into();
        let mut attributes = actor.attributes.unwrap_or_default();
        match kind {
            EventMessageTypeEnum::CONTAINER => match action.as_str() {
                "create" => {
                    let name = attributes.remove("name").unwrap_or_default();
                    // The attributes are the container's labels and a few facts besides; none of those has one of
                    // the prefixes that are kept.
                    let labels = kept_labels(&name, attributes, odd);
                    Some(Self::Created { id, name: name_without_slash(&name).into(), labels })
                }
                "destroy" => Some(Self::Destroyed { id }),
                "start" => Some(Self::Started { id }),
                "die" => Some(Self::Ended { id }),
                "rename" => Some(Self::Changed { id }),
                other if other.starts_with("health_status") => Some(Self::Changed { id }),
                _ => None,
            },
            EventMessageTypeEnum::NETWORK => {
                let mut container = || attributes.remove("container").filter(|id| !id.is_empty());
                match action.as_str() {
                    "connect" => Some(Self::Connected { network: id, id: container()?.into() }),
                    "disconnect" => Some(Self::Disconnected { network: id, id: container()?.into() }),
                    "destroy" => Some(Self::NetworkDestroyed { network: id }),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Event> {
        Event::read(serde_json::from_str(json).unwrap(), &mut WarnOnce::default())
    }

    // As Docker 20.10 writes them, shortened.
    #[test]
    fn events_of_docker_are_read() {
        let created = read(
            r#"{"status":"create","id":"c1","from":"web","Type":"container","Action":"create","Actor":{"ID":"c1",
            "Attributes":{"image":"web","name":"web-1","steppe.user":"alice","com.hashicorp.nomad.alloc_id":"a","x":"y"}},
            "scope":"local","time":1,"timeNano":1000000000}"#,
        );
        let labels = [("com.hashicorp.nomad.alloc_id", "a"), ("steppe.user", "alice")];
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(created, Some(Event::Created { id: "c1".into(), name: "web-1".into(), labels }));
        let connected = read(
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1","name":"bridge",
            "type":"bridge"}},"scope":"local","time":1,"timeNano":1}"#,
        );
        assert_eq!(connected, Some(Event::Connected { network: "n1".into(), id: "c1".into() }));
        let health = r#"{"Type":"container","Action":"health_status: unhealthy","Actor":{"ID":"c1"}}"#;
        assert_eq!(read(health), Some(Event::Changed { id: "c1".into() }));
    }

    #[test]
    fn incomplete_events_are_passed_over() {
        for json in [
            "{}",
            r#"{"Type":"container","Action":"start"}"#,
            r#"{"Type":"container","Action":"start","Actor":{}}"#,
            r#"{"Type":"container","Action":"start","Actor":{"ID":""}}"#,
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":{}}}"#,
            r#"{"Type":"image","Action":"create","Actor":{"ID":"n"}}"#,
            r#"{"Type":"container","Action":"exec_create: sh","Actor":{"ID":"n"}}"#,
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
