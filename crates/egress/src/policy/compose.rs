//! Levels become one policy; a lower one may only narrow.

use super::check::{Check, is_on};
use super::document::{NetworkLimits, NetworkPolicy};
use super::level::{Level, LevelRules, Named};
use super::parse::Entry;
use super::rule::Rule;
use super::{HostPattern, Policy};
use crate::secret::{SecretSource, SecretSpec};
use crate::sign::SshKey;

/// Why levels do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// A lower level allows what a higher one does not.
    #[error(
        "the rule `{lower}` of the {lower_level} allows more than the {higher_level} does, whose \
         nearest rule is `{higher}`; a lower level can only narrow"
    )]
    Widens {
        /// The level that asks for more.
        lower_level: Level,
        /// The rule that does.
        lower: String,
        /// The level that allows less.
        higher_level: Level,
        /// Its nearest rule, or `nothing`.
        higher: String,
    },
    /// A lower level allows what a higher one denies.
    #[error(
        "the rule `{lower}` of the {lower_level} allows what the rule `!{higher}` of the \
         {higher_level} denies; a lower level can only narrow"
    )]
    Denied {
        /// The level that allows.
        lower_level: Level,
        /// Its rule.
        lower: String,
        /// The level that denies.
        higher_level: Level,
        /// Its rule.
        higher: String,
    },
    /// A lower level raises a limit.
    #[error(
        "the limit `{name}: {lower}` of the {lower_level} is above `{name}: {higher}` of the \
         {higher_level}; a lower level can only narrow"
    )]
    RaisesLimit {
        /// Which one.
        name: &'static str,
        /// The level that asks for more.
        lower_level: Level,
        /// How much it asks for.
        lower: u64,
        /// The level that gives less.
        higher_level: Level,
        /// How much it gives.
        higher: u64,
    },
    /// Two levels say different things about one secret.
    #[error(
        "the secret `{name}` of the {lower_level} goes further than that of the {higher_level}: \
         {problem}; a lower level can only narrow"
    )]
    Secret {
        /// Its name.
        name: String,
        /// The lower level.
        lower_level: Level,
        /// The higher level.
        higher_level: Level,
        /// In what they differ.
        problem: String,
    },
    /// A level that somebody else may have written says where on this host a value is read.
    #[error(
        "the secret `{name}` of the {level} is read from `{source_text}`; an agent can name \
         environment variables only, and a call nothing: write `{name}@HOST` there, and give \
         `--secret {name}={source_text}@HOST` to the run"
    )]
    Source {
        /// The secret.
        name: String,
        /// The level.
        level: Level,
        /// Where it would be read.
        source_text: String,
    },
    /// A level names a secret twice.
    #[error("the {level} names the secret `{name}` twice")]
    SecretTwice {
        /// The level.
        level: Level,
        /// The secret.
        name: String,
    },
    /// A lower level wants a key that a higher one does not give.
    #[error(
        "the SSH key `{key}` of the {lower_level} is not one of the {higher_level}'s; a lower \
         level can only narrow"
    )]
    SshKey {
        /// The key.
        key: SshKey,
        /// The level that wants it.
        lower_level: Level,
        /// The level that does not give it.
        higher_level: Level,
    },
}

impl Policy {
    /// Puts levels together. A level that is not given, or says nothing about something, changes
    /// nothing of it. Of those that have `allow`, every one has to allow what goes out; without
    /// any, nothing does. What one denies is denied.
    ///
    /// # Errors
    ///
    /// A lower level widens what a higher one says.
    pub fn compose(
        levels: impl IntoIterator<Item = (Level, NetworkPolicy)>,
    ) -> Result<Self, ComposeError> {
        let mut levels: Vec<(Level, NetworkPolicy)> = levels.into_iter().collect();
        levels.sort_by_key(|(level, _)| *level);
        let mut policy = Self::default();
        let mut limits: Vec<(Level, NetworkLimits)> = Vec::new();
        let mut secrets: Vec<Composed> = Vec::new();
        let mut keys: Option<(Level, Vec<SshKey>)> = None;
        for (level, document) in levels {
            add_limits(&mut limits, level, document.limits)?;
            add_secrets(&mut secrets, level, &document.secrets)?;
            add_keys(&mut keys, level, document.ssh_keys.clone())?;
            let rules = level_rules(level, document);
            check_call(&policy.levels, &rules)?;
            for higher in policy.levels.iter().filter(|_| is_on(Check::Narrowing)) {
                check_narrows(higher, &rules)?;
            }
            policy.levels.push(rules);
        }
        policy.limits =
            limits.into_iter().fold(NetworkLimits::default(), |sum, (_, limits)| sum.lower(limits));
        for composed in secrets {
            policy.sources.extend(composed.source.map(|level| (composed.spec.name.clone(), level)));
            policy.secrets.push(composed.spec);
        }
        policy.ssh_keys = keys.map(|(_, keys)| keys).unwrap_or_default();
        Ok(policy)
    }
}

fn level_rules(level: Level, document: NetworkPolicy) -> LevelRules {
    let name = |rule: Rule| Named { written: rule.to_string(), rule };
    let mut deny: Vec<Named> = document.deny.into_iter().map(name).collect();
    let allow = document.allow.map(|entries| {
        let mut allow = Vec::new();
        for entry in entries {
            match entry {
                Entry::Allow(rule) => allow.push(name(rule)),
                Entry::Deny(rule) => deny.push(name(rule)),
                Entry::Preset(preset) => allow.extend(preset.rules().into_iter().map(|rule| {
                    Named { written: format!("preset:{}: {rule}", preset.name()), rule }
                })),
            }
        }
        allow
    });
    LevelRules { level, allow, deny, open: document.open }
}

/// A call uses what others gave, and gives itself nothing: where nobody above it allows anything,
/// nothing goes out.
fn check_call(above: &[LevelRules], rules: &LevelRules) -> Result<(), ComposeError> {
    let silent = above.iter().all(|level| level.allow.is_none());
    match rules.allow.iter().flatten().next() {
        Some(first) if rules.level == Level::Call && silent && is_on(Check::Narrowing) => {
            Err(ComposeError::Widens {
                lower_level: rules.level,
                lower: first.written.clone(),
                higher_level: Level::Run,
                higher: "nothing".to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// Every part of every rule of the lower level has to be within one rule of the higher one, and
/// not wholly within what that denies.
fn check_narrows(higher: &LevelRules, lower: &LevelRules) -> Result<(), ComposeError> {
    for named in lower.allow.iter().flatten() {
        let denied = higher.deny.iter().find(|deny| deny.rule.denies_all_of(&named.rule));
        if let Some(denied) = denied {
            return Err(ComposeError::Denied {
                lower_level: lower.level,
                lower: named.written.clone(),
                higher_level: higher.level,
                higher: denied.written.clone(),
            });
        }
        let Some(allow) = &higher.allow else { continue };
        for part in named.rule.parts() {
            if !allow.iter().any(|own| own.rule.covers(&part)) {
                return Err(ComposeError::Widens {
                    lower_level: lower.level,
                    lower: named.written.clone(),
                    higher_level: higher.level,
                    higher: nearest(allow, &part),
                });
            }
        }
    }
    Ok(())
}

/// The rule that would have to say more for `part` to be allowed.
fn nearest(allow: &[Named], part: &Rule) -> String {
    let ending =
        |pattern: &HostPattern| -> Vec<char> { pattern.to_string().chars().rev().collect() };
    let wanted = ending(&part.host);
    let nearness = |named: &&Named| {
        let own = ending(&named.rule.host);
        let same = own.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
        (named.rule.host.covers(&part.host), same)
    };
    // Of equal ones the first.
    let best = allow.iter().rev().max_by_key(nearness);
    best.map_or_else(|| "nothing".to_owned(), |named| named.written.clone())
}

fn add_limits(
    all: &mut Vec<(Level, NetworkLimits)>,
    level: Level,
    limits: NetworkLimits,
) -> Result<(), ComposeError> {
    for (higher_level, given) in all.iter().filter(|_| is_on(Check::Narrowing)) {
        for ((name, lower), (_, higher)) in limits.each().into_iter().zip(given.each()) {
            if let (Some(lower), Some(higher)) = (lower, higher)
                && lower > higher
            {
                let (lower_level, higher_level) = (level, *higher_level);
                return Err(ComposeError::RaisesLimit {
                    name,
                    lower_level,
                    lower,
                    higher_level,
                    higher,
                });
            }
        }
    }
    all.push((level, limits));
    Ok(())
}

fn add_keys(
    keys: &mut Option<(Level, Vec<SshKey>)>,
    level: Level,
    wanted: Option<Vec<SshKey>>,
) -> Result<(), ComposeError> {
    let Some(wanted) = wanted else { return Ok(()) };
    if let (Level::Call, None, Some(key)) = (level, &keys, wanted.first()) {
        let (lower_level, higher_level) = (level, Level::Run);
        return Err(ComposeError::SshKey { key: *key, lower_level, higher_level });
    }
    if let Some((higher_level, given)) = keys
        && let Some(key) = wanted.iter().find(|key| !given.contains(key))
    {
        let (lower_level, higher_level) = (level, *higher_level);
        return Err(ComposeError::SshKey { key: *key, lower_level, higher_level });
    }
    *keys = Some((level, wanted));
    Ok(())
}

/// An agent may come from anywhere, and a call's policy from a model: neither runs commands on this
/// host or reads its files.
fn check_source(level: Level, secret: &SecretSpec) -> Result<(), ComposeError> {
    let Some(source) = &secret.source else { return Ok(()) };
    let is_trusted = match (level, source) {
        (Level::Organisation | Level::Run, _) => true,
        (Level::Agent, source) => matches!(source, SecretSource::Env(_)),
        (Level::Call, _) => false,
    };
    if is_trusted || !is_on(Check::Sources) {
        return Ok(());
    }
    let (name, source_text) = (secret.name.clone(), source.to_string());
    Err(ComposeError::Source { name, level, source_text })
}

/// A secret as the levels so far have it.
struct Composed {
    /// The lowest level that names it.
    level: Level,
    /// The level that says where its value is read.
    source: Option<Level>,
    spec: SecretSpec,
}

fn add_secrets(
    all: &mut Vec<Composed>,
    level: Level,
    wanted: &[SecretSpec],
) -> Result<(), ComposeError> {
    for (index, secret) in wanted.iter().enumerate() {
        if wanted.iter().take(index).any(|other| other.name == secret.name) {
            return Err(ComposeError::SecretTwice { level, name: secret.name.clone() });
        }
        check_source(level, secret)?;
        let named = secret.source.as_ref().map(|_| level);
        let Some(given) = all.iter_mut().find(|given| given.spec.name == secret.name) else {
            all.push(Composed { level, source: named, spec: secret.clone() });
            continue;
        };
        given.spec =
            narrow_secret(&given.spec, secret).map_err(|problem| ComposeError::Secret {
                name: secret.name.clone(),
                lower_level: level,
                higher_level: given.level,
                problem,
            })?;
        given.level = level;
        given.source = given.source.or(named);
    }
    Ok(())
}

/// The lower level's secret, with the source of whichever level names one.
fn narrow_secret(given: &SecretSpec, wanted: &SecretSpec) -> Result<SecretSpec, String> {
    let outside = wanted.hosts.iter().find(|host| !given.hosts.iter().any(|own| own.covers(host)));
    if let Some(host) = outside {
        return Err(format!("it is not for `{host}`"));
    }
    if given.source.is_some() && wanted.source.is_some() && given.source != wanted.source {
        return Err("it is read somewhere else".to_owned());
    }
    if let Some(place) = wanted.places.iter().find(|place| !given.is_at(place)) {
        return Err(format!("it is not put in at `{place}`"));
    }
    if given.sign != wanted.sign {
        return Err("one of them signs and the other does not, or otherwise".to_owned());
    }
    let source = wanted.source.clone().or_else(|| given.source.clone());
    let places = if wanted.places.is_empty() { &given.places } else { &wanted.places };
    Ok(SecretSpec { source, places: places.clone(), ..wanted.clone() })
}
