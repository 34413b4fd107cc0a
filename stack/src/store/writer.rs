//! Who the collector is to the store: a user that may add documents to our streams, and can neither read nor remove any.

use serde_json::{Value, json};

use super::{
    Credentials, Error, Outcome,
    mappings::{contains, differences},
    server::Server,
};

const API: &str = "_plugins/_security/api";

/// Makes the role, the user, and that the one is the other's, where the store has security.
pub(super) fn ready(server: &Server, writer: &Credentials) -> Result<Vec<(&'static str, Outcome)>, Error> {
    let user = writer.user.as_str();
    if server.get(&format!("{API}/roles/{user}"))?.is_unknown() {
        let why = "the store has no security: whoever reaches it may read all and remove whole indices. Let only the collector reach it";
        return Ok(vec![("writer", Outcome::Absent(why.to_owned()))]);
    }
    if documents::ALL.iter().any(|stream| stream.name == user) {
        // The default role `own_index`.
        let why = "a user of this name may do anything to the stream of this name: call it something else";
        return Ok(vec![("writer", Outcome::Absent(why.to_owned()))]);
    }
    let role = json!({
        "description": "clawker's collector: adds documents",
        "cluster_permissions": ["indices:data/write/bulk"],
        "index_permissions": [{
            "index_patterns": documents::ALL.map(|stream| stream.name),
            "allowed_actions": ["indices:data/write/bulk*", "indices:data/write/index"],
        }],
    });
    Ok(vec![
        ("role", thing(server, "roles", user, &role)?),
        ("user", self::user(server, writer)?),
        ("role mapping", thing(server, "rolesmapping", user, &json!({"users": [user]}))?),
    ])
}

fn thing(server: &Server, kind: &str, name: &str, wanted: &Value) -> Result<Outcome, Error> {
    let path = format!("{API}/{kind}/{name}");
    let Some(answer) = server.get(&path)?.found()? else {
        server.put(&path, Some(wanted))?.done()?;
        return Ok(Outcome::Made);
    };
    let there = answer.get(name).unwrap_or(&Value::Null);
    if contains(there, wanted) {
        return Ok(Outcome::AsItIs);
    }
    let how = differences(wanted, there).join("; ");
    Ok(Outcome::Differs(format!("{how}. Left so: `DELETE /{path}`, and run this again")))
}

/// The password is told to nobody, so it is tried.
fn user(server: &Server, writer: &Credentials) -> Result<Outcome, Error> {
    let path = format!("{API}/internalusers/{}", writer.user);
    if server.get(&path)?.found()?.is_none() {
        let body = json!({"password": writer.password, "description": "clawker's collector"});
        server.put(&path, Some(&body))?.done()?;
        return Ok(Outcome::Made);
    }
    let answer = server.by(writer).get("_plugins/_security/authinfo")?;
    match answer.status {
        200 => Ok(Outcome::AsItIs),
        401 => Ok(Outcome::Differs(format!(
            "its password is another. Give the collector that one, or `DELETE /{path}` and run this again"
        ))),
        _ => Err(answer.refused()),
    }
}
