use std::collections::HashMap;

use super::find::trim;
use super::quoted;

/// How many matching pairs of lines are counted before the search for the closest place stops;
/// it is only advice.
const MOST_VOTES: usize = 1_000_000;

/// What to tell a model about lines that do not stand in a file at or after `cursor`.
pub(super) fn describe(lines: &[&str], context: &[&str], cursor: usize) -> String {
    let wanted = match context.len() {
        1 => "its line is".to_owned(),
        count => format!("its {count} lines are"),
    };
    let after = match cursor {
        0 => "not in the file".to_owned(),
        _ => format!("not in the file from line {} on", cursor + 1),
    };
    let hint = hint(lines, context, cursor);
    format!("{wanted} {after}. {hint} Read the file again and send the hunk as the file is now")
}

fn hint(lines: &[&str], context: &[&str], cursor: usize) -> String {
    if let Some((place, agreeing)) = closest(lines, context) {
        let at = place + 1;
        if agreeing == context.len() {
            return format!(
                "They stand at line {at}, but hunks before this one reach to line {cursor}: send \
                 hunks in the file's order, without overlap."
            );
        }
        let difference = first_difference(lines, context, place);
        let count = context.len();
        return format!(
            "The closest place is line {at}, where {agreeing} of {count} lines agree{difference}."
        );
    }
    let longest = context.iter().map(|line| trim(line)).max_by_key(|line| line.len());
    match longest.and_then(|line| most_similar(lines, line)) {
        Some((number, line)) => {
            format!("The most similar line is line {}: {}.", number + 1, quoted(line))
        }
        None => "No line of the file is like any of them.".to_owned(),
    }
}

/// The place where most lines agree, blanks at their ends aside, and how many do. Lines that are
/// blank agree with too much to be counted first.
fn closest(lines: &[&str], context: &[&str]) -> Option<(usize, usize)> {
    let mut wanted: HashMap<&str, Vec<usize>> = HashMap::new();
    for (offset, line) in context.iter().enumerate() {
        wanted.entry(trim(line)).or_default().push(offset);
    }
    wanted.remove("");
    let mut votes: HashMap<usize, usize> = HashMap::new();
    let mut left = MOST_VOTES;
    for (number, line) in lines.iter().enumerate() {
        let Some(offsets) = wanted.get(trim(line)) else { continue };
        for place in offsets.iter().filter_map(|offset| number.checked_sub(*offset)) {
            *votes.entry(place).or_default() += 1;
        }
        left = left.saturating_sub(offsets.len());
        if left == 0 {
            break;
        }
    }
    let most = votes.values().copied().max()?;
    let place = votes.iter().filter(|(_, count)| **count == most).map(|(place, _)| *place).min()?;
    let agreeing = pairs(lines, context, place).filter(|(file, patch)| trim(file) == trim(patch));
    Some((place, agreeing.count()))
}

fn pairs<'a>(
    lines: &'a [&'a str],
    context: &'a [&'a str],
    place: usize,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let file = lines.iter().skip(place).copied().chain(std::iter::repeat("(end of file)"));
    file.zip(context.iter().copied())
}

fn first_difference(lines: &[&str], context: &[&str], place: usize) -> String {
    let different = pairs(lines, context, place)
        .enumerate()
        .find(|(_, (file, patch))| trim(file) != trim(patch));
    different.map_or_else(String::new, |(offset, (file, patch))| {
        format!(
            "; line {} is {} and the patch has {}",
            place + offset + 1,
            quoted(file),
            quoted(patch)
        )
    })
}

/// The line that shares the longest beginning and end with `wanted`, if that is most of it.
fn most_similar<'a>(lines: &[&'a str], wanted: &str) -> Option<(usize, &'a str)> {
    let shared = |line: &str| {
        let line = trim(line).as_bytes();
        let wanted = wanted.as_bytes();
        let start = line.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        let rest = line.len().min(wanted.len()) - start;
        let end = line.iter().rev().zip(wanted.iter().rev()).take(rest);
        start + end.take_while(|(a, b)| a == b).count()
    };
    let enough = (wanted.len() * 3).div_ceil(5).max(4);
    lines
        .iter()
        .enumerate()
        .map(|(number, line)| (shared(line), number, *line))
        .filter(|(shared, _, line)| *shared >= enough && *shared * 5 >= trim(line).len() * 3)
        .max_by_key(|(shared, number, _)| (*shared, std::cmp::Reverse(*number)))
        .map(|(_, number, line)| (number, line))
}
