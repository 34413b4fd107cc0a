//! What `matrix` says.

use std::ops::Range;

use crate::scenario::{
    cell::printable,
    diagnostic::Diagnostic,
    outline::{Node, Place, Value},
    source::SourceFile,
};

/// One variable and its values, in order.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) values: Vec<Item>,
}

/// One value; `plain` is one without quotes.
pub(super) struct Item {
    pub(super) text: String,
    pub(super) plain: bool,
}

/// The variables, and the lines that `matrix` takes.
pub(super) fn variables(
    source: &SourceFile,
    root: &Node,
    faults: &mut Vec<Diagnostic>,
) -> (Vec<Variable>, Range<usize>) {
    let Value::Map(entries) = &root.value else { return (Vec::new(), 0..0) };
    let named =
        |(key, _): &&(Node, Node)| matches!(&key.value, Value::Scalar { text, .. } if text == "matrix");
    let Some((key, matrix)) = entries.iter().find(named) else { return (Vec::new(), 0..0) };
    let lines = key.place.line..matrix.last_line + 1;
    let Value::Map(entries) = &matrix.value else {
        let message = format!("`matrix` is a mapping of variables to lists, not {}", matrix.value.describe());
        faults.push(source.diagnose(matrix.place, message));
        return (Vec::new(), lines);
    };
    let mut variables: Vec<Variable> = Vec::new();
    for (key, list) in entries {
        let Value::Scalar { text: name, .. } = &key.value else {
            faults.push(source.diagnose(key.place, "the name of a variable is a word"));
            continue;
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
            let message = format!("`{}` cannot be the name of a variable", printable(name));
            let help = "use letters, digits, `_`, `-` and `.`";
            faults.push(source.diagnose(key.place, message).help(help));
        }
        if variables.iter().any(|other| other.name == *name) {
            let message = format!("matrix variable `{}` is there twice", printable(name));
            faults.push(source.diagnose(key.place, message));
        }
        let values = values(source, name, list, faults);
        variables.push(Variable { name: name.clone(), place: key.place, values });
    }
    (variables, lines)
}

fn values(source: &SourceFile, name: &str, list: &Node, faults: &mut Vec<Diagnostic>) -> Vec<Item> {
    let name = printable(name);
    let Value::List(items) = &list.value else {
        let message = format!("matrix variable `{name}` is a list of values, not {}", list.value.describe());
        faults.push(source.diagnose(list.place, message));
        return Vec::new();
    };
    if items.is_empty() {
        let message = format!("matrix variable `{name}` has no values, so there would be no cells");
        faults.push(source.diagnose(list.place, message));
    }
    let mut values: Vec<Item> = Vec::new();
    for item in items {
        match &item.value {
            Value::Scalar { text, plain } if !(*plain && matches!(text.as_str(), "" | "~" | "null")) => {
                values.push(Item { text: text.clone(), plain: *plain });
            }
            other => {
                let message = format!("a matrix value is a word or a number, not {}", other.describe());
                faults.push(source.diagnose(item.place, message));
            }
        }
    }
    values
}
