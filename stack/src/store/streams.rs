//! Data streams, and the mapping of the index that is written to.

use documents::Stream;
use serde_json::{Value, json};

use super::{
    Error, Outcome,
    mappings::Gap,
    server::{Server, needed},
};

/// Makes a data stream; adds to the mapping of one that is there what it has not.
pub(super) fn ready(server: &Server, stream: &Stream) -> Result<Outcome, Error> {
    if let Some(outcome) = found(server, stream)? {
        return Ok(outcome);
    }
    if server.get(stream.name)?.found()?.is_some() {
        // It may be the stream, if somebody else made it in between.
        if let Some(outcome) = found(server, stream)? {
            return Ok(outcome);
        }
        // A sender that came before us: its index was made by no template.
        return Ok(Outcome::Differs(format!(
            "an index or alias has this name, and no data stream can. Copy it elsewhere (`POST /_reindex`), remove it \
             (`DELETE /{}`), and run this again",
            stream.name
        )));
    }
    let answer = server.put(&format!("_data_stream/{}", stream.name), None)?;
    let exists = Some("resource_already_exists_exception");
    if answer.body.pointer("/error/type").and_then(Value::as_str) == exists {
        // Somebody else made it just now, by the same template.
        return Ok(Outcome::AsItIs);
    }
    answer.done()?;
    Ok(Outcome::Made)
}

/// What there is to say of a data stream, if it is there.
fn found(server: &Server, stream: &Stream) -> Result<Option<Outcome>, Error> {
    let path = format!("_data_stream/{}", stream.name);
    let answer = server.get(&path)?.found()?;
    // An index of the name is answered with a list of no stream.
    let Some(there) = answer.as_ref().and_then(|answer| answer.pointer("/data_streams/0")) else {
        return Ok(None);
    };
    // Which its next index will be made by.
    let template = needed(there, "/template", &path)?;
    if template.as_str() == Some(stream.name) {
        return mapping(server, stream).map(Some);
    }
    Ok(Some(Outcome::Differs(format!(
        "its next index is made by the template {template}, whose priority is higher than ours"
    ))))
}

/// A stream's indices, the oldest first; the last is written to.
pub(super) fn indices(server: &Server, stream: &str) -> Result<Vec<String>, Error> {
    let path = format!("_data_stream/{stream}");
    let Some(answer) = server.get(&path)?.found()? else { return Ok(Vec::new()) };
    let indices =
        needed(&answer, "/data_streams/0/indices", &path)?.as_array().map_or(&[][..], Vec::as_slice);
    Ok(indices.iter().filter_map(|index| Some(index.get("index_name")?.as_str()?.to_owned())).collect())
}

fn mapping(server: &Server, stream: &Stream) -> Result<Outcome, Error> {
    let Some(index) = indices(server, stream.name)?.pop() else { return Ok(Outcome::AsItIs) };
    let path = format!("{index}/_mapping");
    let answer = server.get(&path)?.done()?;
    let there = answer
        .get(&index)
        .and_then(|of| of.get("mappings"))
        .ok_or(Error::Unexpected { request: path, missing: "mappings" })?;
    let wanted = documents::template(stream);
    let wanted = wanted.pointer("/template/mappings").unwrap_or(&Value::Null);
    let Gap { missing, names, mut differs } = Gap::between(wanted, there);
    if !names.is_empty() {
        // What has no values yet can be told at any time.
        let path = format!("{}/_mapping?write_index_only=true", stream.name);
        server.put(&path, Some(&json!({"properties": missing})))?.done()?;
    }
    let dynamic =
        |of: &Value| of.get("dynamic").map(|word| word.as_str().map_or(word.to_string(), str::to_owned));
    if dynamic(wanted) != dynamic(there) {
        differs.push(format!("dynamic: {:?} is {:?}", dynamic(wanted), dynamic(there)));
    }
    Ok(if !differs.is_empty() {
        Outcome::Differs(format!(
            "{}. No mapping can be changed so; the stream's next index is made by its template: `POST /{}/_rollover`",
            differs.join("; "),
            stream.name
        ))
    } else if names.is_empty() {
        Outcome::AsItIs
    } else {
        Outcome::Updated(format!("added {}", names.join(", ")))
    })
}
