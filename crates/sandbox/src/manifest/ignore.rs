/// Patterns in the syntax of `.gitignore`, for paths beneath one folder.
///
/// Understood: comments, `!` to take back, a leading or inner `/` to tie a pattern to the folder,
/// a trailing `/` for folders only, `*`, `?`, `[a-z]`, `[!a-z]`, `**` and a backslash before a
/// special character. The last pattern that matches decides; what is in a folder that is left out
/// cannot be taken back. Not understood: nested ignore files (only the one at the top is read) and
/// classes such as `[:alpha:]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Pattern of each part; `**` alone matches any number of parts.
    parts: Vec<Vec<u8>>,
    takes_back: bool,
    folders_only: bool,
}

impl IgnoreRules {
    /// Reads one pattern from each line. There are no errors: as in git, what makes no sense
    /// matches nothing.
    pub fn parse(text: &str) -> Self {
        Self::from_lines(text.lines())
    }

    /// Takes one pattern from each item.
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self { rules: lines.into_iter().filter_map(Rule::parse).collect() }
    }

    /// Adds the patterns of `later`, which win over these.
    pub fn extend(&mut self, later: Self) {
        self.rules.extend(later.rules);
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path, relative to the folder, is matched. Does not look at the folders above it:
    /// a walk does that on its way down.
    pub fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        let parts: Vec<_> = path.split(|byte| *byte == b'/').collect();
        let matching = self.rules.iter().rev().find(|rule| rule.matches(&parts, is_folder));
        matching.is_some_and(|rule| !rule.takes_back)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let line = trim_end(line);
        let (line, takes_back) = match line.strip_prefix('!') {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let (line, folders_only) = match line.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let is_tied = line.contains('/');
        let mut parts = if is_tied { Vec::new() } else { vec![b"**".to_vec()] };
        let line = line.strip_prefix('/').unwrap_or(line);
        parts.extend(line.split('/').map(|part| part.as_bytes().to_vec()));
        // `a/**` means what is in `a`, not `a` itself.
        if parts.last().is_some_and(|last| last == b"**") {
            parts.push(b"*".to_vec());
        }
        Some(Self { parts, takes_back, folders_only })
    }

    fn matches(&self, path: &[&[u8]], is_folder: bool) -> bool {
        (is_folder || !self.folders_only)
            && wildcard(&self.parts, path, |part| part == b"**", |part, name| glob(part, name))
    }
}

/// Blanks at the end mean nothing unless a backslash stands before them.
fn trim_end(line: &str) -> &str {
    let trimmed = line.trim_end_matches([' ', '\t', '\r']);
    let escaped = trimmed.ends_with('\\') && trimmed.len() < line.trim_end_matches('\r').len();
    if escaped { line.get(..trimmed.len() + 1).unwrap_or(line) } else { trimmed }
}

/// Whether a pattern in which some items match any number of items matches all of `text`. Greedy
/// with one point to fall back to, so never more than |pattern| × |text| steps.
fn wildcard<P, T>(
    pattern: &[P],
    text: &[T],
    is_many: impl Fn(&P) -> bool,
    is_match: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut fall_back: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(many), _) if is_many(many) => {
                fall_back = Some((p, t));
                p += 1;
            }
            (Some(one), Some(item)) if is_match(one, item) => {
                p += 1;
                t += 1;
            }
            _ => match &mut fall_back {
                Some((many, from)) => {
                    *from += 1;
                    (p, t) = (*many + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(is_many)
}

/// One item of a pattern for a name.
enum Glob {
    Many,
    Any,
    Byte(u8),
    Class { ranges: Vec<(u8, u8)>, negated: bool },
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    if !pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
        return pattern == name;
    }
    let Some(items) = glob_items(pattern) else { return false };
    wildcard(
        &items,
        name,
        |item| matches!(item, Glob::Many),
        |item, byte| match item {
            Glob::Many => false,
            Glob::Any => true,
            Glob::Byte(wanted) => wanted == byte,
            Glob::Class { ranges, negated } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&byte)) != *negated
            }
        },
    )
}

/// `None`: a class or an escape that is never closed.
fn glob_items(mut pattern: &[u8]) -> Option<Vec<Glob>> {
    let mut items = Vec::new();
    while let Some((first, rest)) = pattern.split_first() {
        pattern = rest;
        items.push(match first {
            b'*' => Glob::Many,
            b'?' => Glob::Any,
            b'\\' => {
                let (byte, rest) = pattern.split_first()?;
                pattern = rest;
                Glob::Byte(*byte)
            }
            b'[' => {
                let (class, rest) = class(pattern)?;
                pattern = rest;
                class
            }
            byte => Glob::Byte(*byte),
        });
    }
    Some(items)
}

fn class(pattern: &[u8]) -> Option<(Glob, &[u8])> {
    let (negated, mut rest) = match pattern.split_first()? {
        (b'!' | b'^', rest) => (true, rest),
        _ => (false, pattern),
    };
    let mut ranges = Vec::new();
    loop {
        let (low, after) = rest.split_first()?;
        // A bracket that comes first is a member.
        if *low == b']' && !ranges.is_empty() {
            return Some((Glob::Class { ranges, negated }, after));
        }
        rest = after;
        match rest {
            [b'-', high, after @ ..] if *high != b']' => {
                ranges.push((*low, *high));
                rest = after;
            }
            _ => ranges.push((*low, *low)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::IgnoreRules;

    #[track_caller]
    fn check(patterns: &[&str], path: &str, expected: bool) {
        let (path, is_folder) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let rules = IgnoreRules::from_lines(patterns.iter().copied());
        assert_eq!(rules.matches(path.as_bytes(), is_folder), expected, "{patterns:?} {path}");
    }

    #[test]
    fn matches_as_git_does() {
        check(&["*.o"], "a/b.o", true);
        check(&["*.o"], "a/b.oo", false);
        check(&["target/"], "a/target/", true);
        check(&["target/"], "target", false);
        check(&["/target"], "a/target", false);
        check(&["/target"], "target", true);
        check(&["a/b"], "x/a/b", false);
        check(&["**/a/b"], "x/y/a/b", true);
        check(&["a/**/b"], "a/b", true);
        check(&["a/**/b"], "a/x/y/b", true);
        check(&["a/**"], "a/", false);
        check(&["a/**"], "a/x/y", true);
        check(&["*", "!keep"], "keep", false);
        check(&["!keep", "*"], "keep", true);
        check(&["# no"], "# no", false);
        check(&["\\#yes"], "#yes", true);
        check(&["a[0-9]?"], "a5x", true);
        check(&["a[!0-9]"], "a5", false);
        check(&["a[]]"], "a]", true);
        check(&["a["], "a[", false);
        check(&["trailing "], "trailing", true);
        check(&["trailing\\ "], "trailing ", true);
        check(&["*a*a*a*a*a*a*a*b"], &"a".repeat(200), false);
    }
}
