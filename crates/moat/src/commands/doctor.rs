//! `doctor`: what this host can fence, and what to do about what it cannot.

mod engine;
mod storage;

use std::io::Write as _;

use moat_sandbox_local::{
    FenceState, FenceStatus, KeptWorkspaces, LimitState, LimitStatus, UsersState, UsersStatus,
};
use serde_json::{Value, json};

use crate::cli::{DoctorArgs, Global};
use crate::engine::local_provider;
use crate::escape::escape;
use crate::exit::Exit;
use crate::home::Home;

pub(crate) async fn doctor(global: &Global, args: &DoctorArgs) -> anyhow::Result<Exit> {
    let home = Home::find(global)?;
    home.make()?;
    let provider = local_provider(&home)?;
    let fences = provider.fences()?;
    let limits = provider.limits()?;
    let users = provider.users()?;
    let toolchains = provider.toolchains()?;
    let workspaces = provider.workspaces()?;
    let missing = fences.iter().any(|fence| fence.state == FenceState::Missing);
    let engine = if args.docker { Some(engine::look(&home, global.quiet).await) } else { None };
    let missing = missing || engine.as_ref().is_some_and(engine::Engine::is_missing);
    let mut out = std::io::stdout().lock();
    if args.json.json {
        let rows: Vec<Value> = fences.iter().map(row).collect();
        let limits: Vec<Value> = limits.iter().map(limit_row).collect();
        let report = json!({
            "v": 1, "version": env!("CARGO_PKG_VERSION"), "ready": !missing, "fences": rows,
            "limits": limits,
            "users": users_row(&users),
            "keeps_workspaces": matches!(workspaces, KeptWorkspaces::Kept { .. }),
            "workspaces": workspaces_row(&workspaces),
            "storage": storage::row(),
            "docker": engine.as_ref().map(engine::Engine::row),
            "toolchains": toolchains, "data_dir": home.data, "config_dir": home.config,
        });
        writeln!(out, "{report}")?;
    } else {
        print(&mut out, &fences)?;
        writeln!(out, "\nlimits of sandboxes")?;
        print_limits(&mut out, &limits)?;
        print_users(&mut out, &users)?;
        print_workspaces(&mut out, &workspaces)?;
        storage::print(&mut out)?;
        let found = if toolchains.is_empty() { "none".to_owned() } else { toolchains.join(", ") };
        writeln!(out, "\ntoolchains of your home that sandboxes see: {found}")?;
        if let Some(engine) = &engine {
            engine.print(&mut out)?;
        }
        writeln!(out, "data           {}", home.data.display())?;
        writeln!(out, "configuration  {}", home.config.display())?;
        writeln!(
            out,
            "{}",
            if missing { "\nthis host is not ready" } else { "\nthis host is ready" }
        )?;
    }
    Ok(if missing { Exit::HostCannot } else { Exit::Success })
}

fn word(state: FenceState) -> &'static str {
    match state {
        FenceState::Hard => "hard",
        FenceState::Soft => "soft",
        FenceState::Missing => "MISSING",
    }
}

fn row(fence: &FenceStatus) -> Value {
    json!({
        "name": fence.name,
        "what": fence.what,
        "state": word(fence.state).to_lowercase(),
        "detail": fence.detail,
        "remedy": fence.remedy,
    })
}

fn print(out: &mut impl std::io::Write, fences: &[FenceStatus]) -> std::io::Result<()> {
    for fence in fences {
        writeln!(out, "{:<8} {:<18} {}", word(fence.state), fence.name, fence.what)?;
        if !fence.detail.is_empty() && fence.state != FenceState::Hard {
            writeln!(out, "         {}", fence.detail)?;
        }
        if !fence.remedy.is_empty() && fence.state != FenceState::Hard {
            for line in fence.remedy.lines() {
                writeln!(out, "         > {line}")?;
            }
        }
    }
    Ok(())
}

fn limit_word(state: LimitState) -> &'static str {
    match state {
        LimitState::Hard => "hard",
        LimitState::Soft => "soft",
        LimitState::Missing => "none",
    }
}

fn limit_row(limit: &LimitStatus) -> Value {
    json!({
        "name": limit.name,
        "what": limit.what,
        "state": limit_word(limit.state),
        "detail": limit.detail,
        "remedy": limit.remedy,
    })
}

fn workspaces_row(workspaces: &KeptWorkspaces) -> Value {
    match workspaces {
        KeptWorkspaces::Kept { last_failure } => json!({
            "kept": true, "last_failure": last_failure,
        }),
        KeptWorkspaces::Filled { reason } => json!({ "kept": false, "reason": reason }),
    }
}

fn print_workspaces(
    out: &mut impl std::io::Write,
    workspaces: &KeptWorkspaces,
) -> std::io::Result<()> {
    match workspaces {
        KeptWorkspaces::Kept { last_failure } => {
            writeln!(
                out,
                "\nworkspaces: large ones are kept, and forks lie over them (overlayfs)"
            )?;
            match last_failure {
                Some(reason) => writeln!(
                    out,
                    "  the last that was to be kept was not, and sandboxes were filled: {}",
                    escape(reason)
                ),
                None => Ok(()),
            }
        }
        KeptWorkspaces::Filled { reason } => {
            writeln!(out, "\nworkspaces: every sandbox's is filled anew: {}", escape(reason))
        }
    }
}

fn users_row(users: &UsersStatus) -> Value {
    let state = match users.state {
        UsersState::Private => "private",
        UsersState::Lent => "lent",
        UsersState::One => "one",
    };
    json!({ "state": state, "detail": users.detail, "remedy": users.remedy })
}

fn print_users(out: &mut impl std::io::Write, users: &UsersStatus) -> std::io::Result<()> {
    let who = match users.state {
        UsersState::Private => "a range of ids of each sandbox's own",
        UsersState::Lent => "you, and ids that /etc/subuid and /etc/subgid lend you",
        UsersState::One => "you alone; sandboxes that ask for other users are refused",
    };
    writeln!(out, "\nusers of sandboxes are {who}")?;
    if !users.detail.is_empty() {
        writeln!(out, "         {}", users.detail)?;
    }
    if !users.remedy.is_empty() {
        writeln!(out, "         > {}", users.remedy)?;
    }
    Ok(())
}

fn print_limits(out: &mut impl std::io::Write, limits: &[LimitStatus]) -> std::io::Result<()> {
    for limit in limits {
        writeln!(out, "{:<8} {:<18} {}", limit_word(limit.state), limit.name, limit.what)?;
        if !limit.detail.is_empty() {
            writeln!(out, "         {}", limit.detail)?;
        }
        if !limit.remedy.is_empty() {
            writeln!(out, "         > {}", limit.remedy)?;
        }
    }
    Ok(())
}
