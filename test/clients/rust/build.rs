//! Stubs of the .proto files, by the descriptors that buf wrote to DESCRIPTORS: no protoc is needed.
use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::var("DESCRIPTORS")?;
    println!("cargo::rerun-if-env-changed=DESCRIPTORS");
    println!("cargo::rerun-if-changed={path}");
    let descriptors = prost_types::FileDescriptorSet::decode(std::fs::read(path)?.as_slice())?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
