//! Compiles `proto/` without a system `protoc`, and keeps the descriptor set, comments and all, for reflection.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 6] = ["desired", "sync", "proxy", "netfilter", "dns", "control"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = FILES.map(|name| root.join(format!("steppe/v1/{name}.proto")));
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
