//! `policy suggest`: the smallest policy that a run would have needed.

use std::io::Write as _;

use moat_core::{EgressDecision, EventBody};
use moat_egress::policy::{Level, NetworkPolicy, policy_text, suggest};
use moat_harness::network::from_settings;
use serde_json::json;

use super::show::events_of;
use super::take_up::state_of;
use crate::cli::SuggestArgs;
use crate::engine::Engine;
use crate::escape::escape;
use crate::exit::{Exit, usage};

pub(crate) async fn suggest_policy(engine: &Engine, args: &SuggestArgs) -> anyhow::Result<Exit> {
    let run = engine.find(&args.which).await?;
    let state = state_of(engine, run).await?;
    let Some(settings) = &state.sandbox_settings().network else {
        return Err(usage(format!(
            "run {run} had no network, so nothing was asked for; a run with `--net '!*'` refuses \
             everything and records what was asked for"
        )));
    };
    let levels = from_settings(settings)?;
    let existing = one_document(&levels);
    let events = events_of(engine, run).await?;
    let decisions: Vec<&EgressDecision> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::EgressDecided(decided) => Some(&decided.decisions),
            _ => None,
        })
        .flatten()
        .collect();
    let suggestion = suggest(decisions, Some(&existing));
    let (now, then) = (policy_text(&existing), policy_text(&suggestion.policy));
    let mut out = std::io::stdout().lock();
    if args.json {
        let shown = json!({
            "v": 1, "run": run, "existing": existing, "suggested": suggestion.policy,
            "reasons": suggestion.reasons, "notes": suggestion.notes,
        });
        writeln!(out, "{shown}")?;
        return Ok(Exit::Success);
    }
    for (rule, reason) in &suggestion.reasons {
        writeln!(out, "# {}: {}", escape(rule), escape(reason))?;
    }
    for note in &suggestion.notes {
        writeln!(out, "# not proposed: {}", escape(note))?;
    }
    if now == then {
        writeln!(out, "the policy is the smallest already")?;
        return Ok(Exit::Success);
    }
    let difference = similar::TextDiff::from_lines(&now, &then);
    let mut difference = difference.unified_diff();
    let text = difference.header("network (now)", "network (proposed)").to_string();
    write!(out, "{}", escape(&text))?;
    Ok(Exit::Success)
}

/// What the agent and the run say, as one text to compare with: the organisation's policy is not
/// the agent's to change.
fn one_document(levels: &[(Level, NetworkPolicy)]) -> NetworkPolicy {
    let mut one = NetworkPolicy::default();
    let own = levels.iter().filter(|(level, _)| *level != Level::Organisation);
    for (_, level) in own {
        // The last level that allows is within all the others.
        one.allow = level.allow.clone().or(one.allow);
        one.deny.extend(level.deny.iter().cloned());
        one.open.extend(level.open.iter().cloned());
        for secret in &level.secrets {
            one.secrets.retain(|known| known.name != secret.name);
            one.secrets.push(secret.clone());
        }
        one.ssh_keys = level.ssh_keys.clone().or(one.ssh_keys);
        one.limits = one.limits.lower(level.limits);
    }
    one
}
