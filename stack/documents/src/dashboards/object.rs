//! One saved object: its layout is that of an export of OpenSearch Dashboards.
//!
//! Objects name each other in `references` alone, and parts of them are JSON within JSON.

use serde_json::{Value, json};

use super::PATTERN_ID;
use crate::Stream;

/// The reference that a search of its own is made over.
const INDEX: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";

/// Another object, named by one.
pub(super) struct Reference {
    name: String,
    kind: &'static str,
    id: &'static str,
}

impl Reference {
    /// To an object, under a name that its place gives.
    pub fn of(kind: &'static str, id: &'static str) -> Self {
        Self { name: String::new(), kind, id }
    }

    fn to_pattern(name: &str) -> Self {
        Self { name: name.to_owned(), kind: "index-pattern", id: PATTERN_ID }
    }

    fn json(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "id": self.id})
    }
}

/// A part of a page.
pub(super) struct Panel {
    pub of: Reference,
    /// Of 48 columns.
    pub wide: u32,
    /// Rows.
    pub high: u32,
}

/// What is counted.
#[derive(Clone, Copy)]
pub(super) enum Metric {
    /// Distinct values of an attribute.
    Distinct(&'static str),
    /// All of its values together.
    Sum(&'static str),
}

impl Metric {
    fn json(self) -> Value {
        let (kind, field) = match self {
            Self::Distinct(field) => ("cardinality", field),
            Self::Sum(field) => ("sum", field),
        };
        json!({"id": "1", "enabled": true, "type": kind, "schema": "metric", "params": {"field": attribute(field)}})
    }
}

fn attribute(name: &str) -> String {
    format!("attributes.{name}")
}

/// An object of a kind. The version is that of the layout, so that a newer Dashboards migrates it.
pub(super) fn object(kind: &str, id: &str, attributes: &Value, references: &[Reference]) -> Value {
    let layout = match kind {
        "index-pattern" => json!({"index-pattern": "7.6.0"}),
        "visualization" => json!({"visualization": "7.10.0"}),
        "search" | "dashboard" => json!({kind: "7.9.3"}),
        _ => json!({}),
    };
    let references: Vec<Value> = references.iter().map(Reference::json).collect();
    json!({"type": kind, "id": id, "attributes": attributes, "references": references, "migrationVersion": layout})
}

/// A search's source: documents of a stream, and those alone with this value; and its references.
fn source(stream: Option<&Stream>, with: Option<(&str, &str)>) -> (String, Vec<Reference>) {
    let mut references = vec![Reference::to_pattern(INDEX)];
    let mut filters = Vec::new();
    // The lane says this of every document; what a sender says of itself is not in it.
    let of_stream = stream.map(|stream| ("resource.service.name".to_owned(), stream.name));
    for (at, (key, value)) in
        of_stream.into_iter().chain(with.map(|(name, value)| (attribute(name), value))).enumerate()
    {
        let reference = format!("kibanaSavedObjectMeta.searchSourceJSON.filter[{at}].meta.index");
        filters.push(json!({
            "$state": {"store": "appState"},
            "meta": {
                "alias": null, "disabled": false, "negate": false, "type": "phrase",
                "key": key, "params": {"query": value}, "indexRefName": reference,
            },
            "query": {"match_phrase": {key: value}},
        }));
        references.push(Reference::to_pattern(&reference));
    }
    let source = json!({
        "query": {"query": "", "language": "kuery"},
        "filter": filters,
        "indexRefName": INDEX,
    });
    (source.to_string(), references)
}

/// A view of a stream.
pub(super) fn search(stream: &Stream, columns: &[String]) -> Value {
    let (source, references) = source(Some(stream), None);
    let attributes = json!({
        "title": stream.title,
        "description": stream.about,
        "hits": 0,
        "columns": columns,
        "sort": [["@timestamp", "desc"]],
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": source},
    });
    object("search", stream.name, &attributes, &references)
}

fn visualization(id: &str, title: &str, state: &Value, source: &str, references: &[Reference]) -> Value {
    let attributes = json!({
        "title": title,
        "description": "",
        "visState": state.to_string(),
        "uiStateJSON": "{}",
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": source},
    });
    object("visualization", id, &attributes, references)
}

/// Lists to choose from, by attribute and label. What is chosen is pinned: it narrows whatever is looked at next.
pub(super) fn controls(id: &str, title: &str, by: &[(&str, &str)]) -> Value {
    let mut controls = Vec::new();
    let mut references = Vec::new();
    for (at, (name, label)) in by.iter().enumerate() {
        let reference = format!("control_{at}_index_pattern");
        controls.push(json!({
            "id": format!("clawker-{name}"), "fieldName": attribute(name), "label": label, "parent": "", "type": "list",
            "options": {"type": "terms", "multiselect": true, "dynamicOptions": true, "size": 100, "order": "desc"},
            "indexPatternRefName": reference,
        }));
        references.push(Reference::to_pattern(&reference));
    }
    let parameters = json!({"controls": controls, "updateFiltersOnChange": true, "useTimeFilter": true, "pinFilters": true});
    let state = json!({"title": title, "type": "input_control_vis", "aggs": [], "params": parameters});
    let source = json!({"query": {"query": "", "language": "kuery"}, "filter": []});
    visualization(id, title, &state, &source.to_string(), &references)
}

/// A stream over time, a colour for each value of an attribute.
pub(super) fn histogram(id: &str, title: &str, stream: &Stream, metric: Metric, by: &str) -> Value {
    let time = json!({
        "id": "2", "enabled": true, "type": "date_histogram", "schema": "segment",
        "params": {"field": "@timestamp", "interval": "auto", "min_doc_count": 1, "drop_partials": false, "extended_bounds": {}},
    });
    let axis = |id: &str, kind: &str, at: &str| {
        json!({
            "id": id, "type": kind, "position": at, "show": true, "scale": {"type": "linear"}, "labels": {"show": true},
            "style": {}, "title": {},
        })
    };
    let mut value = axis("ValueAxis-1", "value", "left");
    if let Some(value) = value.as_object_mut() {
        value.insert("name".to_owned(), json!("LeftAxis-1"));
    }
    let parameters = json!({
        "type": "histogram", "addLegend": true, "addTooltip": true, "legendPosition": "right", "times": [],
        "addTimeMarker": false, "grid": {"categoryLines": false},
        "categoryAxes": [axis("CategoryAxis-1", "category", "bottom")],
        "valueAxes": [value],
        "seriesParams": [{
            "data": {"id": "1", "label": title}, "type": "histogram", "mode": "stacked", "show": true,
            "valueAxis": "ValueAxis-1", "showCircles": true, "drawLinesBetweenPoints": true,
        }],
    });
    let aggregations = [metric.json(), time, terms(3, "group", by, 10)];
    let state = json!({"title": title, "type": "histogram", "aggs": aggregations, "params": parameters});
    let (source, references) = source(Some(stream), None);
    visualization(id, title, &state, &source, &references)
}

/// A stream's documents that have this value, told together by these attributes.
pub(super) fn table(
    id: &str,
    title: &str,
    stream: &Stream,
    metric: Metric,
    by: &[&str],
    with: Option<(&str, &str)>,
) -> Value {
    let mut aggregations = vec![metric.json()];
    aggregations.extend((2_u32..).zip(by).map(|(id, name)| terms(id, "bucket", name, 50)));
    let parameters = json!({
        "perPage": 10, "showMetricsAtAllLevels": false, "showPartialRows": false, "showTotal": false,
        "sort": {"columnIndex": null, "direction": null}, "totalFunc": "sum", "percentageCol": "",
    });
    let state = json!({"title": title, "type": "table", "aggs": aggregations, "params": parameters});
    let (source, references) = source(Some(stream), with);
    visualization(id, title, &state, &source, &references)
}

/// By a keyword: what has none is shown as such, and nothing is left out.
fn terms(id: u32, schema: &str, by: &str, size: u32) -> Value {
    json!({
        "id": id.to_string(), "enabled": true, "type": "terms", "schema": schema,
        "params": {
            "field": attribute(by), "orderBy": "1", "order": "desc", "size": size,
            "otherBucket": false, "otherBucketLabel": "Other", "missingBucket": true, "missingBucketLabel": "none",
        },
    })
}

/// A page: panels side by side as long as they find room, and then below.
pub(super) fn dashboard(id: &str, title: &str, panels: &[Panel]) -> Value {
    let mut shown = Vec::new();
    let mut references = Vec::new();
    let (mut x, mut y, mut row) = (0_u32, 0_u32, 0_u32);
    for (at, Panel { of, wide, high }) in panels.iter().enumerate() {
        if x.saturating_add(*wide) > 48 {
            (x, y, row) = (0, y.saturating_add(row), 0);
        }
        let (name, at) = (format!("panel_{at}"), at.to_string());
        shown.push(json!({
            "version": "7.9.3", "panelIndex": at, "embeddableConfig": {}, "panelRefName": name,
            "gridData": {"x": x, "y": y, "w": wide, "h": high, "i": at},
        }));
        references.push(Reference { name, ..*of });
        (x, row) = (x.saturating_add(*wide), row.max(*high));
    }
    let source = json!({"query": {"query": "", "language": "kuery"}, "filter": []});
    let attributes = json!({
        "title": title,
        "description": "Whom agents reached for, what became of it, and what the proxy, the resolver and they themselves say.",
        "hits": 0,
        "version": 1,
        "panelsJSON": Value::from(shown).to_string(),
        "optionsJSON": json!({"hidePanelTitles": false, "useMargins": true}).to_string(),
        "timeRestore": true,
        "timeFrom": "now-24h",
        "timeTo": "now",
        "refreshInterval": {"pause": true, "value": 0},
        "kibanaSavedObjectMeta": {"searchSourceJSON": source.to_string()},
    });
    object("dashboard", id, &attributes, &references)
}
