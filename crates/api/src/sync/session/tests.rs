use steppe_model::Client;

use super::*;

fn client(last: u8) -> Resource {
    Resource::Client(Client { listener: ResourceId::new("web:80/tcp"), ip: [10, 0, 0, last].into() })
}

fn feed(session: &mut Session, message: Message) -> Result<Step, ProtocolError> {
    session.take(v1::SyncRequest { version: session.version() + 1, message: Some(message) })
}

fn begin() -> Message {
    Message::SnapshotBegin(v1::SnapshotBegin { epoch: 1 })
}

fn end() -> Message {
    Message::SnapshotEnd(v1::SnapshotEnd {})
}

#[test]
fn what_a_snapshot_does_not_name_is_left_over() {
    let mut session = Session::default();
    feed(&mut session, begin()).unwrap();
    let kept = client(1);
    let step = feed(&mut session, Message::Upsert((&kept).into())).unwrap();
    assert_eq!(step, Step::Apply(Change::Upsert(kept.clone())));
    assert_eq!(feed(&mut session, end()).unwrap(), Step::Prune);
    let in_force = [kept.id(), client(2).id()];
    assert_eq!(session.leftovers(in_force), vec![client(2).id()]);
    let step = feed(&mut session, Message::Remove(kept.id().to_string())).unwrap();
    assert_eq!(step, Step::Apply(Change::Remove(kept.id())));
}

#[test]
fn nothing_is_removed_before_the_snapshot_ends() {
    let mut session = Session::default();
    feed(&mut session, begin()).unwrap();
    let step = feed(&mut session, Message::Remove(client(1).id().to_string())).unwrap();
    assert_eq!(step, Step::Nothing);
    feed(&mut session, end()).unwrap();
    assert_eq!(session.leftovers([client(1).id()]), vec![client(1).id()]);
}

#[test]
fn nonsense_is_rejected_by_id_and_its_former_content_stays() {
    let mut session = Session::default();
    feed(&mut session, begin()).unwrap();
    let mut wire = v1::Resource::from(&client(1));
    wire.kind = None;
    let step = feed(&mut session, Message::Upsert(wire)).unwrap();
    let reason = "kind: is missing".to_string();
    assert_eq!(step, Step::Reject(Rejection { id: client(1).id(), reason }));
    feed(&mut session, end()).unwrap();
    assert_eq!(session.leftovers([client(1).id()]), vec![]);
}

#[test]
fn relief_is_passed_on_and_counts_as_a_request() {
    let mut session = Session::default();
    feed(&mut session, begin()).unwrap();
    feed(&mut session, end()).unwrap();
    assert_eq!(feed(&mut session, Message::Relieved(v1::Relieved {})).unwrap(), Step::Relieved);
    assert_eq!(session.version(), 3);
}

#[test]
fn a_breach_of_the_protocol_ends_the_stream() {
    let upsert = || Message::Upsert((&client(1)).into());
    let mut session = Session::default();
    assert!(feed(&mut session, upsert()).unwrap_err().to_string().contains("begins with its snapshot"));
    let mut session = Session::default();
    assert!(feed(&mut session, end()).is_err());
    let mut session = Session::default();
    feed(&mut session, begin()).unwrap();
    assert!(feed(&mut session, begin()).is_err());
    let skipped = v1::SyncRequest { version: 9, message: Some(upsert()) };
    assert!(session.take(skipped).unwrap_err().to_string().contains("one more"));
    assert!(session.take(v1::SyncRequest { version: 3, message: None }).is_err());
}
