//! The JSON Schema of a scenario file, for editors: the grammar's types, with closed sets as words.
//!
//! An editor reads a file before its matrix is put in, so wherever a value stands, a text with `${name}` in it may
//! stand as well. What takes more than one value to know (a host that is not listed, a contradiction) is
//! `lint`'s.

use schemars::{
    Schema, SchemaGenerator, generate::SchemaSettings, json_schema, transform::transform_subschemas,
};
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator as _;

use super::{
    fields::{self, EGRESS_STREAM, Kind, TRANSPORTS},
    needs,
    outcome::errnos,
    types::{Scenario, Stopped},
    validate::{agents::CAPABILITIES, rules::PROTOS, steps::ACTIONS},
};
use crate::actor::raw;

/// What stands for a variable's value, anywhere in a text.
const VARIABLE: &str = r"\$\{[A-Za-z0-9_.-]+\}";
/// Marks a port that says what a server is.
const SERVER_PORT: &str = "port";

/// The schema, as `scenarios/schema.json` has it.
pub fn text() -> String {
    format!("{:#}\n", value())
}

/// The schema.
pub fn value() -> Value {
    // Draft 7 is what the YAML servers of editors know best.
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Scenario>();
    simplify(&mut schema);
    permit_variables(&mut schema);
    schema.insert("title".to_owned(), json!("A scenario of the harness"));
    let definitions =
        schema.as_object_mut().and_then(|object| object.get_mut("definitions")?.as_object_mut());
    if let Some(definitions) = definitions {
        let about = "A matrix variable; its value is put in before the file is read.";
        definitions.insert(
            "Variable".to_owned(),
            json!({"type": "string", "pattern": VARIABLE, "description": about}),
        );
    }
    schema.to_value()
}

/// Nothing written is no value, and addresses are checked as such.
fn simplify(schema: &mut Schema) {
    transform_subschemas(&mut simplify, schema);
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice != &json!({"type": "null"}));
        if let [Value::Object(one)] = choices.as_slice() {
            let one = one.clone();
            object.remove("anyOf");
            // Draft 7 heeds nothing beside a reference.
            object.insert("allOf".to_owned(), json!([one]));
        }
    }
    if object
        .get("default")
        .is_some_and(|default| !(default.is_string() || default.is_number() || default.is_boolean()))
    {
        object.remove("default");
    }
    if object.get("format") == Some(&json!("ip")) {
        object.remove("format");
        object.insert("anyOf".to_owned(), json!([{"format": "ipv4"}, {"format": "ipv6"}]));
    }
}

/// Permits a variable wherever a scalar is more than any text.
fn permit_variables(schema: &mut Schema) {
    if !is_words(schema.as_object()) {
        transform_subschemas(&mut permit_variables, schema);
    }
    let Some(object) = schema.as_object_mut() else { return };
    let kind = object.get("type").and_then(Value::as_str);
    let narrow = ["enum", "const", "pattern", "format", "anyOf"].iter().any(|key| object.contains_key(*key));
    let scalar = matches!(kind, Some("integer" | "number" | "boolean")) || (kind == Some("string") && narrow);
    if !scalar && !is_words(Some(object)) {
        return;
    }
    let mut outer = Map::new();
    for key in ["title", "description", "default"] {
        outer.extend(object.remove(key).map(|value| (key.to_owned(), value)));
    }
    let inner = std::mem::take(object);
    outer.insert("anyOf".to_owned(), json!([inner, {"$ref": "#/definitions/Variable"}]));
    *object = outer;
}

/// Whether it is one of several words, each with its description.
fn is_words(object: Option<&Map<String, Value>>) -> bool {
    let choices = object.and_then(|object| object.get("oneOf")?.as_array());
    choices
        .is_some_and(|choices| choices.iter().all(|choice| choice.get("const").is_some_and(Value::is_string)))
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Schema {
    let words: Vec<&str> = words.into_iter().collect();
    json_schema!({"type": "string", "enum": words})
}

fn pattern(pattern: &str, example: &str) -> Schema {
    json_schema!({"type": "string", "pattern": pattern, "examples": [example]})
}

/// `250ms`, `2s`, `1m`.
pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    pattern("^[0-9]+(ms|s|m)$", "250ms")
}

/// What is killed, and how often.
pub(super) fn kill(_: &mut SchemaGenerator) -> Schema {
    pattern("^reader( [0-9]+ times in [0-9]+(ms|s|m))?$", "reader")
}

/// What goes on in another index, and how often.
pub(super) fn rollover(_: &mut SchemaGenerator) -> Schema {
    let streams: Vec<&str> = fields::streams().collect();
    let pattern = format!("^({})( [0-9]+ times in [0-9]+(ms|s|m))?$", streams.join("|"));
    self::pattern(&pattern, EGRESS_STREAM)
}

/// What is not there, and for how long.
pub(super) fn outage(_: &mut SchemaGenerator) -> Schema {
    let parts: Vec<String> = Stopped::iter().map(|part| part.to_string()).collect();
    pattern(&format!("^({}) for [0-9]+(ms|s|m)$", parts.join("|")), "endpoint for 5s")
}

/// Lists of values by the names of variables.
pub(super) fn matrix(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z0-9_.-]+$"},
        "additionalProperties": {
            "type": "array",
            "minItems": 1,
            "items": {"type": ["string", "number", "boolean"]},
        },
    })
}

/// Names of Linux.
pub(super) fn capabilities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": words(CAPABILITIES.iter().copied())})
}

/// What a rule permits.
pub(super) fn proto(_: &mut SchemaGenerator) -> Schema {
    words(PROTOS)
}

/// A domain, a wildcard, an address or a prefix.
pub(super) fn rule_destination(_: &mut SchemaGenerator) -> Schema {
    pattern(r"^((\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:.]+(/[0-9]{1,3})?)$", "api.test")
}

/// One port, or a range.
pub(super) fn rule_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        pattern("^[0-9]{1,5}-[0-9]{1,5}$", "8000-8100"),
    ]})
}

/// The port of a server, which also says what the server is.
pub(super) fn server_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": SERVER_PORT, "minimum": 1, "maximum": 65535})
}

/// What an agent's call may return.
pub(super) fn outcome(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<String> = errnos().map(|(name, _)| name).collect();
    let words = words(
        ["ok", "EPERM", "NXDOMAIN", "NODATA"]
            .into_iter()
            .chain(names.iter().map(String::as_str).filter(|n| *n != "EPERM")),
    );
    json_schema!({"anyOf": [words, pattern("^exit [0-9]{1,3}$", "exit 7")]})
}

/// `name:port`, `address:port` or `[address]:port`.
pub(super) fn target(_: &mut SchemaGenerator) -> Schema {
    pattern(r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):[0-9]{1,5}$", "api.test:443")
}

/// A name, or a number.
fn numbered<'a>(names: impl IntoIterator<Item = &'a str>) -> Schema {
    let number = json_schema!({"type": "integer", "minimum": 0, "maximum": 262});
    json_schema!({"anyOf": [words(names), pattern("^[0-9]{1,3}$", "47"), number]})
}

/// First argument of `socket()`.
pub(super) fn socket_family(_: &mut SchemaGenerator) -> Schema {
    numbered(raw::families())
}

/// Second argument of `socket()`.
pub(super) fn socket_kind(_: &mut SchemaGenerator) -> Schema {
    numbered(raw::kinds())
}

/// Third argument of `socket()`.
pub(super) fn socket_protocol(_: &mut SchemaGenerator) -> Schema {
    numbered(raw::protocols())
}

/// A feature or versions of the kernel.
pub(super) fn need(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<String> = needs::words().filter(|word| !word.starts_with("kernel")).collect();
    let version = pattern("^kernel(>=|<)[0-9]+\\.[0-9]+$", "kernel>=6.1");
    json_schema!({"anyOf": [words(names.iter().map(String::as_str)), version]})
}

/// A program and its arguments, which may look like numbers.
pub(super) fn program(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "minItems": 1, "items": {"type": ["string", "number"]}})
}

/// A data stream.
pub(super) fn stream(_: &mut SchemaGenerator) -> Schema {
    words(fields::streams())
}

/// Attributes of documents, of whatever stream: [`expectation`] says which.
pub(super) fn attributes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

/// Attributes of a stream's documents, each with the values that it takes.
fn attributes_of(stream: &documents::Stream) -> Value {
    let properties = stream.fields.iter().filter_map(|field| {
        let kind = match fields::kind(field.name)? {
            Kind::Word(_) if stream.name != EGRESS_STREAM && field.name != "verdict" => Kind::Text,
            kind => kind,
        };
        let mut schema = attribute(field.name, kind).to_value();
        schema.as_object_mut()?.insert("description".to_owned(), field.about.into());
        Some((field.name.to_owned(), schema))
    });
    json!({
        "type": "object",
        "properties": properties.collect::<Map<String, Value>>(),
        "patternProperties": {VARIABLE: {}},
        "additionalProperties": false,
    })
}

fn attribute(name: &str, kind: Kind) -> Schema {
    match kind {
        Kind::Word(set) => words(set.iter().copied()),
        Kind::Transport => json_schema!({"anyOf": [words(TRANSPORTS), pattern("^[0-9]{1,3}$", "47")]}),
        Kind::Number if name.ends_with("_port") => {
            json_schema!({"type": "integer", "minimum": 0, "maximum": 65535})
        }
        Kind::Number => json_schema!({"type": "integer", "minimum": 0}),
        Kind::Fraction => json_schema!({"type": "number"}),
        Kind::Flag => json_schema!({"type": "boolean"}),
        Kind::Address => pattern("^[0-9A-Fa-f:.]*$", "198.51.100.7"),
        Kind::Text | Kind::Agent | Kind::Project | Kind::Host => json_schema!({"type": "string"}),
    }
}

/// Adds to what must hold of an object as a whole.
fn require(schema: &mut Schema, what: Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Value::Array(all) = object.entry("allOf").or_insert_with(|| json!([])) {
        all.push(what);
    }
}

fn exactly_one<'a>(names: impl IntoIterator<Item = &'a str>) -> Value {
    let each: Vec<Value> = names.into_iter().map(|name| json!({"required": [name]})).collect();
    json!({"oneOf": each})
}

/// One agent or several.
pub(super) fn scenario(schema: &mut Schema) {
    require(schema, exactly_one(["agent", "agents"]));
}

/// One action a step.
pub(super) fn one_action(schema: &mut Schema) {
    require(schema, exactly_one(ACTIONS));
}

/// One port a server.
pub(super) fn one_server(schema: &mut Schema) {
    let is_port = |schema: &Value| schema.get("format") == Some(&json!(SERVER_PORT));
    let properties = schema.get("properties").and_then(Value::as_object);
    let ports: Vec<String> = properties
        .into_iter()
        .flatten()
        .filter(|(_, schema)| is_port(schema))
        .map(|(name, _)| name.clone())
        .collect();
    require(schema, exactly_one(ports.iter().map(String::as_str)));
}

/// A number, or the least number, not both.
pub(super) fn expectation(schema: &mut Schema) {
    require(schema, json!({"not": {"required": ["exactly", "at_least"]}}));
    for stream in documents::ALL {
        let named = json!({"properties": {"stream": {"const": stream.name}}});
        let is_meant = if stream.name == EGRESS_STREAM {
            named
        } else {
            json!({"allOf": [named, {"required": ["stream"]}]})
        };
        let of_it = json!({"patternProperties": {"^(where|match)$": attributes_of(&stream)}});
        require(schema, json!({"if": is_meant, "then": of_it}));
    }
}

/// Something is said of what is seen, and nothing twice.
pub(super) fn seen(schema: &mut Schema) {
    let each = ["packets", "at_least", "bytes"].map(|name| json!({"required": [name]}));
    require(schema, json!({"anyOf": each}));
    require(schema, json!({"not": {"required": ["packets", "at_least"]}}));
}
