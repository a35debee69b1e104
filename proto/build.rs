//! Compiles the `.proto` files without `protoc`: protox reads them, tonic's generator writes the Rust.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script where to write by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    collect(PathBuf::from("proto/amends"), &mut files)?;
    files.sort();
    println!("cargo::rerun-if-changed=proto");

    let set = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    Ok(())
}

fn collect(folder: PathBuf, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
