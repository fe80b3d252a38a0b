//! The system prompt of an agent, and what stands in the conversation before the user's words.

use moat_core::Item;
use moat_sandbox::materialise::AgentsMd;

#[cfg(test)]
mod tests;

/// What every agent that works in a sandbox is told.
const BASE: &str = include_str!("prompt/base.md");

/// What a prompt is made of.
#[derive(Clone, Copy, Debug)]
pub struct PromptParts<'a> {
    /// The agent's own instructions; may be empty.
    pub instructions: &'a str,
    /// The layout of the workspace; may be empty.
    pub tree: &'a str,
    /// Instructions that the workspace holds.
    pub agents_md: &'a AgentsMd,
}

/// A prompt in the two places where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct ComposedPrompt {
    /// The system prompt. It is the same in every turn of a run.
    pub instructions: Option<String>,
    /// Items before the first input.
    pub input_prefix: Vec<Item>,
}

/// Puts a prompt together. What the workspace's own files say is given in the user's role and not
/// in the system prompt: whoever can write to a repository is not the one who set the agent up.
pub fn compose(parts: &PromptParts<'_>) -> ComposedPrompt {
    let mut prompt = BASE.trim_end().to_owned();
    let mut section = |title: &str, text: &str| {
        if !text.trim().is_empty() {
            prompt.push_str("\n\n# ");
            prompt.push_str(title);
            prompt.push_str("\n\n");
            prompt.push_str(text.trim_end());
        }
    };
    section("Agent instructions", parts.instructions);
    section("Filesystem", &filesystem(parts.tree));
    let input_prefix = workspace_instructions(parts.agents_md).into_iter().collect();
    ComposedPrompt { instructions: Some(prompt), input_prefix }
}

fn filesystem(tree: &str) -> String {
    let tree = tree.trim_end();
    if tree.trim().is_empty() {
        return String::new();
    }
    format!("The workspace as it was when the work began:\n\n{tree}")
}

/// The message with the workspace's `AGENTS.md` files, if it has any.
fn workspace_instructions(found: &AgentsMd) -> Option<Item> {
    if found.files.is_empty() && found.nested.is_empty() {
        return None;
    }
    let mut text = String::from(
        "# Instructions of the workspace\n\nThis workspace has AGENTS.md files: notes of its \
         owners for agents. Each holds for the folder that it is in and what is below it; where \
         two disagree, the deeper one counts, and what I ask for counts more than any of them.",
    );
    for (path, content) in &found.files {
        // Content cannot end its own wrapper.
        let content = content.replace("</agents_md", "<\\/agents_md");
        text.push_str(&format!(
            "\n\n<agents_md path=\"/workspace/{path}\">\n{}\n</agents_md>",
            content.trim_end()
        ));
    }
    if let Some(cut) = &found.cut {
        text.push_str(&format!("\n\n{cut}"));
    }
    if !found.nested.is_empty() {
        text.push_str("\n\nMore of them; read one before you change files in its folder:");
        for path in &found.nested {
            text.push_str(&format!("\n- /workspace/{path}"));
        }
    }
    Some(Item::user_message(&text))
}
