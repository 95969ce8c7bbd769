//! Within `v1` only compatible changes: whoever speaks the last release's protocol is understood, and understands what it
//! knows (<https://protobuf.dev/programming-guides/proto3/#updating>).

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
};

/// The descriptor set of the last release; `make proto-release` renews it.
const RELEASED: &[u8] = include_bytes!("../../../proto/released.binpb");

/// Everything of a descriptor set that two versions must agree on, one line each.
type Agreed = BTreeMap<String, String>;

fn agreed(set: &FileDescriptorSet) -> Agreed {
    let mut agreed = Agreed::new();
    for file in &set.file {
        let package = file.package();
        file.message_type.iter().for_each(|message| message_lines(package, message, &mut agreed));
        file.enum_type.iter().for_each(|of| enum_lines(package, of, &mut agreed));
        for service in &file.service {
            for method in &service.method {
                let name = format!("rpc {package}.{}/{}", service.name(), method.name());
                agreed.insert(name, method_line(method));
            }
        }
    }
    agreed
}

fn message_lines(scope: &str, message: &DescriptorProto, agreed: &mut Agreed) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        agreed.insert(format!("field {name}:{}", field.number()), field_line(message, field));
    }
    agreed.insert(format!("message {name}"), String::new());
    message.nested_type.iter().for_each(|nested| message_lines(&name, nested, agreed));
    message.enum_type.iter().for_each(|nested| enum_lines(&name, nested, agreed));
}

/// Name, type and label, and the oneof that it is part of. The name counts: people and grpcurl write JSON.
fn field_line(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
    let oneof = oneof.map_or("", |oneof| oneof.name());
    format!("{} {:?} {} {:?} {oneof}", field.name(), field.r#type(), field.type_name(), field.label())
}

fn enum_lines(scope: &str, of: &EnumDescriptorProto, agreed: &mut Agreed) {
    for value in &of.value {
        let name = format!("value {scope}.{}:{}", of.name(), value.number());
        agreed.insert(name, value.name().to_owned());
    }
}

fn method_line(method: &MethodDescriptorProto) -> String {
    format!(
        "{} {} -> {} {}",
        method.client_streaming(),
        method.input_type(),
        method.server_streaming(),
        method.output_type()
    )
}

/// What of the old the new one no longer keeps.
fn broken(old: &Agreed, new: &Agreed) -> Vec<String> {
    let kept = |what: &String, how: &String| match new.get(what) {
        Some(now) if now == how => None,
        Some(now) => Some(format!("{what} was `{how}` and is `{now}`")),
        None => Some(format!("{what} `{how}` is gone")),
    };
    old.iter().filter_map(|(what, how)| kept(what, how)).collect()
}

fn decode(set: &[u8]) -> FileDescriptorSet {
    FileDescriptorSet::decode(set).expect("a descriptor set")
}

#[test]
fn what_the_last_release_said_is_still_said_so() {
    let (old, new) = (agreed(&decode(RELEASED)), agreed(&decode(steppe_api::DESCRIPTORS)));
    assert!(old.len() > 100, "{old:?}");
    let broken = broken(&old, &new);
    assert!(broken.is_empty(), "within v1 only compatible changes:\n{}", broken.join("\n"));
}

#[test]
fn an_incompatible_change_is_seen() {
    let set = decode(RELEASED);
    let old = agreed(&set);
    let changes: [fn(&mut DescriptorProto); 4] = [
        |message| message.field[0].name = Some("other".into()),
        |message| message.field[0].number = Some(99),
        |message| message.field[0].type_name = Some(".steppe.v1.Other".into()),
        |message| drop(message.field.remove(0)),
    ];
    for change in changes {
        let mut set = set.clone();
        let file = set.file.iter_mut().find(|file| file.package() == "steppe.v1");
        let messages = &mut file.expect("our package").message_type;
        change(messages.iter_mut().find(|message| message.field.len() > 1).expect("a message with fields"));
        assert_eq!(broken(&old, &agreed(&set)).len(), 1);
    }
}
