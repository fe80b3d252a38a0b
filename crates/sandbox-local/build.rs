//! Builds the launcher for its own static target, from its own lock file, and hands it out as bytes
//! (`OUT_DIR/moat-launcher`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=launcher");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    let environment = variable("CARGO_CFG_TARGET_ENV")?;
    let target = format!("{architecture}-unknown-linux-{environment}");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let folder = out.join("launcher");
    build(&variable("CARGO")?, &target, &folder)?;
    let built = folder.join(&target).join("release/moat-launcher");
    fs::copy(&built, out.join("moat-launcher"))
        .map(drop)
        .map_err(|error| format!("cannot copy `{}`: {error}", built.display()))
}

fn build(cargo: &str, target: &str, folder: &Path) -> Result<(), String> {
    // What is set for the build around this one (a wrapper that only checks, flags for another
    // target) must not reach the launcher.
    let foreign = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET"];
    let mut command = Command::new(cargo);
    for name in foreign.iter().chain(&["RUSTC_WORKSPACE_WRAPPER", "CARGO_TARGET_DIR", "RUSTC"]) {
        command.env_remove(name);
    }
    let status = command
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
            "launcher/Cargo.toml",
        ])
        .args(["--target", target, "--target-dir"])
        .arg(folder)
        // Static, at a fixed place: nothing to load and nothing to relocate when it starts.
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .status()
        .map_err(|error| format!("cannot run `{cargo}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("building the launcher failed: {status}")) }
}
