//! Parses many policies at one go. Cedar builds the tables of its lexer anew for every text it is given, which takes
//! several times as long as to read one policy. Whatever is not certain is left for each policy to be parsed alone.

use super::{
    draft::{DEPTH, POLICY_BYTES},
    finding::Text,
};
use cedar_policy::{Policy, PolicyId, PolicySet};

/// So many are parsed together: where one is wrong, all of them are parsed again.
const AT_ONCE: usize = 64;

/// What Cedar reads in each of `texts`. The places it tells are not those of the text.
pub(crate) fn parsed(texts: &[Text<'_>]) -> Vec<Option<Policy>> {
    texts.chunks(AT_ONCE).flat_map(together).collect()
}

fn together(texts: &[Text<'_>]) -> Vec<Option<Policy>> {
    let is_plain = |text: &Text<'_>| {
        text.chunk.slots.is_empty() && text.text().len() <= POLICY_BYTES && text.chunk.depth <= DEPTH
    };
    let mut joined = String::new();
    for text in texts.iter().filter(|text| is_plain(text)) {
        joined.push_str(text.text());
        joined.push('\n');
    }
    let set: Option<PolicySet> = joined.parse().ok();
    let mut number = 0_usize;
    let one = |text: &Text<'_>| {
        if !is_plain(text) {
            return None;
        }
        let id = PolicyId::new(format!("policy{number}"));
        number += 1;
        // Where Cedar cuts the text elsewhere than we do, this is another policy.
        set.as_ref()?.policy(&id).filter(|policy| policy.to_string() == text.text()).cloned()
    };
    texts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PolicySource, compile::text::chunks};

    fn read(text: &str) -> Vec<Option<String>> {
        let source = PolicySource::new("a.cedar", text);
        let chunks = chunks(&source.text);
        let texts: Vec<Text<'_>> = chunks.iter().map(|chunk| Text { source: &source, chunk }).collect();
        parsed(&texts).into_iter().map(|policy| Some(policy?.to_string())).collect()
    }

    #[test]
    fn each_policy_of_many_is_the_one_its_text_says() {
        let one =
            |n: usize| format!("@id(\"p{n}\")\npermit (principal, action, resource) when {{ {n} == 1 }};");
        let all: Vec<String> = (0..2 * AT_ONCE + 1).map(one).collect();
        let read = read(&all.join("\n// between;\n"));
        assert_eq!(read, all.into_iter().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn templates_and_what_is_too_much_are_left_out_and_a_mistake_leaves_all_to_be_parsed_alone() {
        let good = "permit (principal, action, resource);";
        let template = "permit (principal == ?principal, action, resource);";
        let long = format!("permit (principal, action, resource) // {}\n;", "x".repeat(POLICY_BYTES));
        assert_eq!(
            read(&format!("{good}{template}{long}{good}")),
            [Some(good.to_owned()), None, None, Some(good.to_owned())]
        );
        assert_eq!(read(&format!("{good} permit (principal; {good}")), [None, None, None]);
        // Cedar ends a comment there, and we do not.
        assert_eq!(read(&format!("{good} // \rpermit(principal, action, resource);\n{good}")).len(), 2);
    }
}
