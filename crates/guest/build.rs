//! Builds the guest program for the architecture that this crate is built for, with its own lock
//! file, and says where it is. Does nothing without the feature `embed`, which is how the program
//! itself depends on this crate.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=program/src");
    println!("cargo::rerun-if-changed=program/Cargo.toml");
    println!("cargo::rerun-if-changed=program/Cargo.lock");
    if env::var_os("CARGO_FEATURE_EMBED").is_none() {
        return;
    }
    if let Err(message) = build() {
        // The one way for a build script to end a build with a message of its own.
        println!("cargo::error={message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let out = variable("OUT_DIR")?;
    let folder = variable("CARGO_MANIFEST_DIR")?;
    let target = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        arch @ ("x86_64" | "aarch64") => format!("{arch}-unknown-linux-gnu"),
        other => return Err(format!("the guest program does not support `{other}`")),
    };
    let build_dir = Path::new(&out).join("program");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--target", &target])
        .arg("--manifest-path")
        .arg(Path::new(&folder).join("program/Cargo.toml"))
        .arg("--target-dir")
        .arg(&build_dir);
    if env::var_os("CARGO_FEATURE_MUTATIONS").is_some() {
        cargo.args(["--features", "mutations"]);
    }
    forget_outer_build(&mut cargo);
    // With an explicit target these flags do not reach build scripts and macros.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !status.success() {
        return Err(format!("cannot build the guest program: cargo ended with {status}"));
    }
    let program = build_dir.join(&target).join("release/moat-guest-program");
    fs::metadata(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    println!("cargo::rustc-env=MOAT_GUEST_PROGRAM={}", program.display());
    Ok(())
}

/// Takes away what cargo and its wrappers put into the environment for the outer build.
fn forget_outer_build(cargo: &mut Command) {
    let outer = |name: &str| {
        matches!(
            name,
            "RUSTFLAGS"
                | "RUSTDOCFLAGS"
                | "RUSTC_WORKSPACE_WRAPPER"
                | "CLIPPY_ARGS"
                | "CARGO_TARGET_DIR"
                | "TARGET"
                | "HOST"
                | "OUT_DIR"
                | "PROFILE"
                | "OPT_LEVEL"
                | "DEBUG"
                | "NUM_JOBS"
                | "RUSTC"
                | "RUSTDOC"
        ) || ["CARGO_BUILD_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_PROFILE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || (name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS"))
    };
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(outer) {
            cargo.env_remove(name);
        }
    }
}
