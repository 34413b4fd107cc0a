//! The page for people: `docs/documents.md`.

use std::fmt::Write as _;

use crate::{ALL, Field, Kind, Stream, Strictness};

const HEAD: &str = "\
# Documents

What a document holds, by the data stream that it is in. Made from the tables in `stack/documents`; run its tests with
`UPDATE_GOLDEN=1` to write it anew.

Attributes are below `attributes.`, under the same names in every stream: `attributes.agent: \"scout\"` narrows them all.
Beside them every document has `@timestamp` (when it happened), `observedTimestamp` (when it was first sent), `severity`,
`body` (one line for people) and `resource.service.name` (the stream, as the lane says). A field that is not known is absent,
where its row does not say that it is empty.
Keywords longer than their limit (in UTF-16 units) are kept and shown, and not found by their value.

`dashboards.ndjson` beside this page has a view of each stream and a page with controls for agent, project and verdict:
import it in OpenSearch Dashboards (Management, Saved objects).
";

/// The page's text, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    for stream in ALL {
        section(&mut text, &stream);
    }
    text
}

fn section(text: &mut String, stream: &Stream) {
    let Stream { name, about, .. } = stream;
    let unknown = match stream.strictness {
        Strictness::Refused => "A document with an attribute that is not in this table is refused.",
        Strictness::Unsearched => "What else a document has is kept and shown, and not found by a search.",
    };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\n## {name}\n\n{about}\n{unknown}\n\n| attribute | kind | unit | what it says |\n|---|---|---|---|\n"
    );
    for field in stream.fields {
        let Field { name, longest, unit, about, .. } = field;
        let kind = match field.kind {
            Kind::Keyword => format!("keyword, {longest}"),
            kind => kind.as_str().to_owned(),
        };
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {about} |");
    }
}
