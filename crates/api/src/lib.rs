//! Steppe's gRPC interface: the generated types of `proto/steppe/v1`, their conversion to and from `steppe-model` at
//! the border, both ends of `Sync`, and tonic on unix sockets.

#![forbid(unsafe_code)]

mod authority;
mod convert;
pub mod serve;
pub mod sync;
pub mod uds;

pub use convert::FieldError;

/// The generated types and services of `steppe.v1`, documented in `proto/steppe/v1`.
pub mod v1 {
    #![allow(missing_docs, reason = "generated: the .proto files carry the documentation")]
    #![allow(unreachable_pub, reason = "generated")]
    tonic::include_proto!("steppe.v1");
}

/// The descriptor set of `proto/`, with comments, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
