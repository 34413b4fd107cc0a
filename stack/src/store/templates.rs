//! Index templates.

use documents::Stream;
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    mappings::differences,
    server::{Server, needed},
};
use crate::digest;

/// Puts a stream's template there. One that somebody changed stays, unless it is to be overwritten.
pub(super) fn ready(server: &Server, stream: &Stream, overwrite: bool) -> Result<Outcome, Error> {
    let wanted = documents::template(stream);
    let path = format!("_index_template/{}", stream.name);
    let outcome = match server.get(&path)?.found()? {
        None => {
            put(server, &path, &wanted)?;
            Outcome::Made
        }
        Some(answer) => {
            let there = needed(&answer, "/index_templates/0/index_template", &path)?;
            let (there, written) = content(there);
            if there == wanted {
                Outcome::AsItIs
            } else if overwrite || written == Some(digest::of_value(&there)) {
                // As we wrote it once, or so it is meant. A template makes the next index, and changes none.
                let how = differences(&there, &wanted).join("; ");
                put(server, &path, &wanted)?;
                Outcome::Updated(how)
            } else {
                let how = differences(&wanted, &there).join("; ");
                Outcome::Differs(format!(
                    "{how}. Somebody changed it: left so, unless told to overwrite (`stack up --overwrite-templates`)"
                ))
            }
        }
    };
    Ok(outcome)
}

fn put(server: &Server, path: &str, wanted: &Value) -> Result<(), Error> {
    let mut body = wanted.clone();
    if let Some(body) = body.as_object_mut() {
        body.insert("_meta".to_owned(), json!({"written_by": "clawker", "digest": digest::of_value(wanted)}));
    }
    server.put(path, Some(&body))?.done().map(drop)
}

/// A template without what says who wrote it, and the digest that was in there.
fn content(there: &Value) -> (Value, Option<String>) {
    let mut there = there.clone();
    let Some(object) = there.as_object_mut() else { return (there, None) };
    let meta = object.remove("_meta");
    // The server says this of every template.
    if object.get("composed_of").is_some_and(|parts| parts.as_array().is_some_and(Vec::is_empty)) {
        object.remove("composed_of");
    }
    let written =
        meta.as_ref().and_then(|meta| meta.get("digest")).and_then(Value::as_str).map(str::to_owned);
    (there, written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_the_content_whatever_the_order() {
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let one = read(r#"{"a": [1, {"b": "x", "c": null}], "d": true}"#);
        let same = read(r#"{"d": true, "a": [1, {"c": null, "b": "x"}]}"#);
        assert_eq!(digest::of_value(&one), digest::of_value(&same));
        for other in
            [r#"{"a": [{"b": "x", "c": null}, 1], "d": true}"#, r#"{"a": [1, {"b": "x"}], "d": true}"#]
        {
            assert_ne!(digest::of_value(&one), digest::of_value(&read(other)), "{other}");
        }
    }

    #[test]
    fn what_was_written_is_told_from_what_somebody_changed() {
        let wanted = documents::template(&documents::EGRESS);
        let stored = |priority: u32| {
            let mut there = wanted.as_object().expect("an object").clone();
            there.insert("_meta".to_owned(), json!({"digest": digest::of_value(&wanted)}));
            there.insert("composed_of".to_owned(), json!([]));
            there.insert("priority".to_owned(), json!(priority));
            content(&Value::Object(there))
        };
        let (read, written) = stored(500);
        assert_eq!(read, wanted);
        assert_eq!(written, Some(digest::of_value(&read)));
        let (read, written) = stored(1);
        assert_ne!(written, Some(digest::of_value(&read)));
        assert_eq!(differences(&wanted, &read), ["priority: 500 is 1"]);
    }
}
