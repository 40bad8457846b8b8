//! Ids as people give them: all 26 characters, or the start and the end of one (`01JD…7Q`, `01JD..7Q`).

use std::{fmt, ops::RangeInclusive, str::FromStr};

use policies_engine::{DecisionId, DecisionIdError};

const LENGTH: usize = 26;

/// Fewest characters of an abbreviation, so that a typing slip does not list the ledger.
const FEWEST: usize = 4;

/// A full id, or what an id starts and ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPattern {
    text: String,
    prefix: String,
    suffix: String,
    least: DecisionId,
    most: DecisionId,
}

/// Why a text names no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is neither a full id nor an abbreviation.
    #[error("`{text}` is no decision id: {source}")]
    Id {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: DecisionIdError,
    },
    /// It gives too little of the id.
    #[error("`{0}` is too short: give at least four characters of the id")]
    Short(String),
}

impl IdPattern {
    /// Whether an id is meant.
    #[must_use]
    pub fn matches(&self, id: DecisionId) -> bool {
        if id < self.least || id > self.most {
            return false;
        }
        self.suffix.is_empty() || id.to_string().ends_with(&self.suffix)
    }

    /// Whether it names exactly one id.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.least == self.most
    }

    /// Unix nanoseconds between which the record was made.
    pub(crate) fn times(&self) -> RangeInclusive<i64> {
        let nanos = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        // A record made before 1970 has the time zero in its id.
        let from = if self.least.millis() == 0 { i64::MIN } else { nanos(self.least.millis()) };
        from..=nanos(self.most.millis()).saturating_add(999_999)
    }
}

impl FromStr for IdPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (prefix, suffix) = text.split_once('…').or_else(|| text.split_once("..")).unwrap_or((text, ""));
        let is_abbreviated = prefix.len() + suffix.len() < text.len();
        let bad = |source| PatternError::Id { text: text.to_owned(), source };
        let (prefix, suffix) = (normal(prefix), normal(suffix));
        let given = prefix.chars().count() + suffix.chars().count();
        if !is_abbreviated {
            let id: DecisionId = prefix.parse().map_err(bad)?;
            let prefix = id.to_string();
            return Ok(Self { text: text.to_owned(), prefix, suffix, least: id, most: id });
        }
        if given > LENGTH {
            return Err(bad(DecisionIdError::Length(given)));
        }
        if given < FEWEST {
            return Err(PatternError::Short(text.to_owned()));
        }
        // Filling up with the smallest and the largest digit also checks every character.
        let fill = |digit: &str| format!("{prefix}{}", digit.repeat(LENGTH - prefix.chars().count()));
        let least = fill("0").parse().map_err(bad)?;
        let most = if prefix.is_empty() {
            DecisionId::from_bytes([0xff; 16])
        } else {
            fill("Z").parse().map_err(bad)?
        };
        format!("{}{suffix}", "0".repeat(LENGTH - suffix.chars().count()))
            .parse::<DecisionId>()
            .map_err(bad)?;
        Ok(Self { text: text.to_owned(), prefix, suffix, least, most })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The letters an id is printed with.
fn normal(text: &str) -> String {
    let letter = |c: char| match c.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_matches_itself_and_every_abbreviation(
            bytes: [u8; 16], head in 0..=26_usize, tail in 0..=26_usize, other: [u8; 16],
        ) {
            let id = DecisionId::from_bytes(bytes);
            let text = id.to_string();
            prop_assert!(text.parse::<IdPattern>().unwrap().matches(id));
            prop_assert!(text.parse::<IdPattern>().unwrap().is_full());

            prop_assume!((4..=26).contains(&(head + tail)));
            let (start, end) = (text.get(..head).unwrap(), text.get(26 - tail..).unwrap());
            for dots in ["…", ".."] {
                let short = format!("{}{dots}{end}", start.to_lowercase());
                let pattern: IdPattern = short.parse().unwrap();
                prop_assert!(pattern.matches(id));
                let nanos = i64::try_from(id.millis()).unwrap().saturating_mul(1_000_000);
                prop_assert!(pattern.times().contains(&nanos));
                let (other, other_text) = (DecisionId::from_bytes(other), DecisionId::from_bytes(other).to_string());
                let expected = other_text.starts_with(start) && other_text.ends_with(end);
                prop_assert_eq!(pattern.matches(other), expected);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(pattern) = text.parse::<IdPattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }

    #[test]
    fn what_names_no_decision_is_refused_with_the_reason() {
        let refusal = |text: &str| text.parse::<IdPattern>().unwrap_err().to_string();
        assert_eq!(
            refusal("01JD"),
            "`01JD` is no decision id: a decision id has 26 characters, this one has 4"
        );
        assert_eq!(refusal("0..1"), "`0..1` is too short: give at least four characters of the id");
        assert_eq!(refusal("01J!..7Q"), "`01J!..7Q` is no decision id: `!` cannot stand in a decision id");
        assert_eq!(refusal("01JD..7\n"), "`01JD..7\n` is no decision id: `\n` cannot stand in a decision id");
        assert!(refusal(&format!("{}..{}", "0".repeat(20), "0".repeat(7))).contains("26 characters"));
    }
}
