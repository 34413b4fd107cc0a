//! Where the model and the chain disagree: what the other witnesses make of it.

use crate::event::{Class, Failure};

/// The model's disagreements with documents, each of the class that the other failures make it. A document
/// that differs from the model is wrong, unless it is right about what should not have happened: something
/// that leaked, or that was `blocked`.
pub fn classify(disagreements: Vec<Failure>, blocked: bool) -> Vec<Failure> {
    let class = if disagreements.iter().any(|failure| failure.class == Class::Leak) {
        Class::Leak
    } else if blocked {
        Class::OverBlock
    } else {
        Class::MisRecord
    };
    let classified = disagreements.into_iter().map(|mut failure| {
        if failure.class == Class::Expectation {
            failure.class = class;
        }
        failure
    });
    classified.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(classes: &[Class], blocked: bool) -> Vec<Class> {
        let failure =
            |class: &Class| Failure { class: *class, message: String::new(), detail: String::new() };
        let classified = classify(classes.iter().map(failure).collect(), blocked);
        classified.into_iter().map(|failure| failure.class).collect()
    }

    #[test]
    fn a_wrong_document_is_told_from_a_true_one_of_a_wrong_deed() {
        assert_eq!(classes(&[Class::Expectation], false), [Class::MisRecord]);
        assert_eq!(classes(&[Class::Expectation], true), [Class::OverBlock]);
        assert_eq!(classes(&[Class::Expectation, Class::Leak], true), [Class::Leak, Class::Leak]);
    }
}
