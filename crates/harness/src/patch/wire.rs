use serde_json::{Value, json};

/// The tool's name.
pub const APPLY_PATCH: &str = "apply_patch";

/// The shape of the input, for providers that hold the model to it.
const GRAMMAR: &str = r#"start: begin operation+ end
begin: "*** Begin Patch" LF
end: "*** End Patch" LF?

operation: add | delete | update
add: "*** Add File: " path LF added_line+
delete: "*** Delete File: " path LF
update: "*** Update File: " path LF move? body
move: "*** Move to: " path LF
body: (header | hunk_line)+ end_of_file?
header: ("@@" | "@@ " /(.+)/) LF
added_line: "+" /(.*)/ LF
hunk_line: (" " | "-" | "+") /(.*)/ LF
end_of_file: "*** End of File" LF
path: /(.+)/

%import common.LF
"#;

const DESCRIPTION: &str = r#"Adds, changes, moves and deletes files of the workspace. The input is the patch itself, not JSON. All of it is applied, or, if any part does not fit, nothing.

*** Begin Patch
*** Add File: docs/new.md
+every line of a new file begins with +
*** Update File: src/shapes.py
@@ class Circle:
     def area(self):
-        return 3 * self.r
+        return math.pi * self.r ** 2
*** Update File: src/old.py
*** Move to: src/new.py
@@
-name = "old"
+name = "new"
*** Delete File: notes.txt
*** End Patch

In an update, each hunk begins with @@. Its lines begin with a blank (kept), - (removed) or + (inserted). Kept and removed lines must be the file's own, exactly, and hunks stand in the file's order. Give about 3 kept lines before and after each change, so that the place is clear; lines between two near changes only once. If that is not enough, name the class or function after the @@: the hunk is then looked for after that line. Several @@ lines one under the other narrow it further, outermost first. *** End of File after a hunk ties it to the file's end. Paths are relative to the workspace."#;

/// What the model is shown of the tool: an object of the Responses API.
pub fn apply_patch_tool() -> Value {
    json!({
        "type": "custom",
        "name": APPLY_PATCH,
        "description": DESCRIPTION,
        "format": { "type": "grammar", "syntax": "lark", "definition": GRAMMAR },
    })
}
