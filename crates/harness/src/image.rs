//! What `view_image` recognises and answers.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::exec_reply::InvalidArguments;

/// The tool's name.
pub const VIEW_IMAGE: &str = "view_image";

/// The largest file that is shown: 10 MiB.
pub const MAX_IMAGE_BYTES: u64 = 10 * 1024 * 1024;

/// How much of a file is searched for an `<svg` element.
const SVG_SEARCH_BYTES: usize = 2048;

/// What the model is shown of the tool: an object of the Responses API.
pub fn view_image_tool() -> Value {
    json!({
        "type": "function",
        "name": VIEW_IMAGE,
        "description": "Shows you an image file of the workspace (PNG, JPEG, GIF, WebP, BMP, TIFF \
            or SVG, at most 10 MB).",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The image file's path; relative paths start at the workspace.",
                },
            },
            "required": ["path"],
        },
        "strict": false,
    })
}

/// Reads the arguments of a call: the path, as the model wrote it.
pub fn parse_arguments(json: &str) -> Result<String, InvalidArguments> {
    let Ok(Value::Object(mut object)) = serde_json::from_str(json) else {
        return Err(InvalidArguments { fields: Vec::new() });
    };
    match object.remove("path") {
        Some(Value::String(path)) if !path.is_empty() => Ok(path),
        _ => Err(InvalidArguments { fields: vec!["path"] }),
    }
}

/// Why an image is not shown. The text is the tool's reply.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImageError {
    /// There is no such file.
    #[error("image path `{0}` was not found")]
    NotFound(String),
    /// The file cannot be read.
    #[error("unable to read image at `{path}`: {reason}")]
    Unreadable {
        /// The path, as the model is to see it.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file is larger than [`MAX_IMAGE_BYTES`].
    #[error(
        "image path `{0}` exceeded the allowed size of 10MB; resize or compress the image and try \
         again"
    )]
    TooLarge(String),
    /// The file is no image of a known kind.
    #[error("image path `{0}` is not a supported image file")]
    Unsupported(String),
}

impl moat_core::Retryable for ImageError {
    fn is_retryable(&self) -> bool {
        false
    }
}

/// Checks a file's size before it is read. Call it with the size that `stat` gave.
pub fn check_size(path: &str, size: u64) -> Result<(), ImageError> {
    if size > MAX_IMAGE_BYTES { Err(ImageError::TooLarge(path.to_owned())) } else { Ok(()) }
}

/// The output of a call: a list with one `input_image` part.
pub fn image_output(path: &str, content: &[u8]) -> Result<Value, ImageError> {
    check_size(path, content.len() as u64)?;
    let mime = sniff(path, content).ok_or_else(|| ImageError::Unsupported(path.to_owned()))?;
    let mut url = format!("data:{mime};base64,");
    base64::engine::general_purpose::STANDARD.encode_string(content, &mut url);
    Ok(json!([{ "type": "input_image", "image_url": url, "detail": "auto" }]))
}

/// The media type of an image, by what it begins with. Only SVG is also known by its name, since
/// it may begin with anything.
pub fn sniff(path: &str, content: &[u8]) -> Option<&'static str> {
    let begins = |magic: &[u8]| content.starts_with(magic);
    if begins(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if begins(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if begins(b"GIF87a") || begins(b"GIF89a") {
        Some("image/gif")
    } else if begins(b"RIFF") && content.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else if is_bmp(content) {
        Some("image/bmp")
    } else if begins(b"II*\0") || begins(b"MM\0*") {
        Some("image/tiff")
    } else if is_svg(path, content) {
        Some("image/svg+xml")
    } else {
        None
    }
}

/// Two letters are not enough: the header's own size, at offset 14, must be one that exists.
fn is_bmp(content: &[u8]) -> bool {
    let size = content.get(14..18).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let is_known = |size| matches!(size, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124);
    content.starts_with(b"BM") && size.map(u32::from_le_bytes).is_some_and(is_known)
}

fn is_svg(path: &str, content: &[u8]) -> bool {
    let start = content.get(..SVG_SEARCH_BYTES).unwrap_or(content);
    // A vertical tab is a blank here too.
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let first = start.iter().position(|byte| !blank(byte)).unwrap_or(start.len());
    let text = start.get(first..).unwrap_or_default().to_ascii_lowercase();
    if text.starts_with(b"<svg") {
        return true;
    }
    if text.starts_with(b"<?xml") && text.windows(4).any(|window| window == b"<svg") {
        return true;
    }
    // A file that is only called `.svg` has no suffix.
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let suffix = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty());
    suffix.is_some_and(|(_, suffix)| matches!(suffix, "svg" | "svgz"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_becomes_one_part_with_its_bytes() {
        let output = image_output("a.gif", b"GIF89a").unwrap();
        assert_eq!(
            output,
            json!([{ "type": "input_image", "detail": "auto", "image_url": "data:image/gif;base64,R0lGODlh" }])
        );
        let error = image_output("dir/a.txt", b"text").unwrap_err();
        assert_eq!(error.to_string(), "image path `dir/a.txt` is not a supported image file");
    }

    #[test]
    fn a_call_without_a_path_is_told_so() {
        for bad in ["{}", r#"{"path":""}"#, r#"{"path":3}"#] {
            assert_eq!(parse_arguments(bad).unwrap_err().fields, ["path"]);
        }
        assert_eq!(parse_arguments(r#"{"path":"x.png"}"#).unwrap(), "x.png");
    }
}
