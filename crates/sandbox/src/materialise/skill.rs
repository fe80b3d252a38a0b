//! What a skill says about itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::MaterialiseError;
use super::host::{host_error, open_file};

/// Bytes of the largest `SKILL.md` whose front matter is read.
const LARGEST: u64 = 1024 * 1024;
const FILE: &str = "SKILL.md";

/// The front matter of a `SKILL.md`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) name: String,
    pub(super) description: String,
}

pub(super) fn read(folder: &OwnedFd, shown: &Path) -> Result<Said, MaterialiseError> {
    let path = shown.join(FILE);
    let file = open_file(folder.as_fd(), OsStr::new(FILE)).map_err(|e| host_error(&path, e))?;
    let mut text = String::new();
    let read = File::from(file).take(LARGEST).read_to_string(&mut text);
    read.map_err(|error| host_error(&path, error))?;
    parse(&text).map_err(|problem| host_error(&path, io::Error::other(problem)))
}

/// Lines `name: …` and `description: …` between two lines `---`; a value may be quoted, or go on in
/// lines that begin with blanks.
fn parse(text: &str) -> Result<Said, &'static str> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Err("a skill begins with front matter between two lines `---`");
    }
    let (mut name, mut description) = (None, None);
    let mut current: Option<&mut Option<String>> = None;
    for line in lines {
        if line.trim_end() == "---" {
            let text = |value: Option<String>| value.filter(|text| !text.is_empty());
            return match (text(name), text(description)) {
                (Some(name), Some(description)) => Ok(Said { name, description }),
                (None, _) => Err("its front matter has no `name`"),
                (_, None) => Err("its front matter has no `description`"),
            };
        }
        if line.starts_with([' ', '\t']) {
            if let Some(Some(value)) = current.as_deref_mut() {
                let gap = if value.is_empty() { "" } else { " " };
                *value = format!("{value}{gap}{}", line.trim());
            }
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        current = match key.trim() {
            "name" => Some(&mut name),
            "description" => Some(&mut description),
            _ => None,
        };
        if let Some(place) = current.as_deref_mut() {
            *place = Some(unquoted(value.trim()).to_owned());
        }
    }
    Err("its front matter has no end: a second line `---`")
}

fn unquoted(value: &str) -> &str {
    if matches!(value, ">" | "|" | ">-" | "|-") {
        return "";
    }
    let inside = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_says_what_a_skill_is_for() {
        let said = parse("---\nname: pdf\nlicense: MIT\ndescription: \"Read: PDFs\"\n---\nText\n");
        assert_eq!(said, Ok(Said { name: "pdf".into(), description: "Read: PDFs".into() }));
        let folded =
            parse("---\r\nname: a\r\ndescription: >\r\n  one\r\n  two\r\n---\r\n").unwrap();
        assert_eq!(folded.description, "one two");
        for (text, problem) in [
            ("name: a\n", "begins with"),
            ("---\nname: a\n", "no end"),
            ("---\nname: a\n---\n", "no `description`"),
            ("---\ndescription: a\n---\n", "no `name`"),
        ] {
            assert!(parse(text).unwrap_err().contains(problem), "{text}");
        }
    }
}
