//! Prints the descriptor set of `proto/`, without comments: what the next versions are held against once this one is released.
//! `make proto-release` keeps it.

use std::io::Write as _;

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut set = FileDescriptorSet::decode(steppe_api::DESCRIPTORS)?;
    for file in &mut set.file {
        file.source_code_info = None;
    }
    std::io::stdout().write_all(&set.encode_to_vec())?;
    Ok(())
}
