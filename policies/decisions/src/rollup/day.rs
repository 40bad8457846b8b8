//! One day of decisions, counted: by hour, and by the values of a few members, for each pair of namespaces, because it
//! is by these that a reader sees rows or does not (RR1).
//!
//! Memory is bounded: values beyond [`ROWS`] of one member are counted together, exactly.

use std::collections::HashMap;

use base_ports::UnixTime;

use super::DAY;
use crate::{
    aggregate::{Field, Measures},
    leaf::View,
    sight::Seen,
};

/// The members by which days are counted, in the order in which files number them.
pub(super) const FIELDS: [Field; 7] = [
    Field::Policy,
    Field::WouldPolicy,
    Field::Principal,
    Field::Resource,
    Field::Service,
    Field::Reason,
    Field::Action,
];

/// Values of one member that a day tells apart.
pub(super) const ROWS: usize = 10_000;

/// Pairs of namespaces that a day tells apart.
const HOMES: usize = 1_024;

/// Nanoseconds of an hour.
pub(super) const HOUR: i64 = DAY / 24;

/// What was counted on one day.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Day {
    /// Index before which all records of the day are counted.
    pub(super) through: u64,
    /// Records that could not be read, were gone, or had no room here.
    pub(super) uncounted: u64,
    /// What was counted before was lost.
    pub(super) is_damaged: bool,
    /// By namespaces: few, so they are looked through.
    pub(super) homes: Vec<(Home, Tables)>,
    /// Values that are told apart, by field.
    pub(super) rows: [usize; FIELDS.len()],
    /// Whether its file is behind.
    pub(super) is_changed: bool,
}

/// Namespaces of the called service and of the caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Home {
    pub(super) callee: Option<Box<str>>,
    pub(super) caller: Option<Box<str>>,
}

/// What was counted between two namespaces.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Tables {
    pub(super) hours: [Measures; 24],
    pub(super) fields: [Table; FIELDS.len()],
}

/// What was counted by one member.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Table {
    pub(super) rows: HashMap<Box<str>, Measures>,
    /// Decisions that have no such member.
    pub(super) none: Measures,
    /// Values that had no room.
    pub(super) other: Measures,
}

impl Day {
    /// Counts a decision.
    pub(super) fn count(&mut self, view: &View<'_>) {
        let (callee, caller) = (view.callee(), view.caller());
        let is_it =
            |(home, _): &(Home, Tables)| home.callee.as_deref() == callee && home.caller.as_deref() == caller;
        let at = self.homes.iter().position(is_it).unwrap_or_else(|| {
            if self.homes.len() < HOMES {
                let home = Home { callee: callee.map(Box::from), caller: caller.map(Box::from) };
                self.homes.push((home, Tables::default()));
            }
            self.homes.len() - 1
        });
        let Some((_, tables)) = self.homes.get_mut(at).filter(|home| is_it(home)) else {
            self.uncounted += 1;
            return;
        };
        let hour = usize::try_from(view.time.rem_euclid(DAY) / HOUR).unwrap_or_default();
        if let Some(hour) = tables.hours.get_mut(hour) {
            hour.add(view, Seen::Whole);
        }
        for ((field, table), rows) in FIELDS.iter().zip(&mut tables.fields).zip(&mut self.rows) {
            let mut has_some = false;
            field.each(view, |value| {
                has_some = true;
                table.add(value, rows, view);
            });
            if !has_some {
                table.none.add(view, Seen::Whole);
            }
        }
    }

    /// A day with these tables, as a file has them.
    pub(super) fn with(mut self, homes: Vec<(Home, Tables)>) -> Day {
        for (_, tables) in &homes {
            for (rows, table) in self.rows.iter_mut().zip(&tables.fields) {
                *rows += table.rows.len();
            }
        }
        self.homes = homes;
        self
    }

    /// Whether everything of the day is in the counts.
    pub(super) fn is_whole(&self) -> bool {
        self.uncounted == 0 && !self.is_damaged
    }
}

impl Table {
    fn add(&mut self, value: &str, rows: &mut usize, view: &View<'_>) {
        if let Some(known) = self.rows.get_mut(value) {
            known.add(view, Seen::Whole);
        } else if *rows < ROWS {
            *rows += 1;
            self.rows.entry(value.into()).or_default().add(view, Seen::Whole);
        } else {
            self.other.add(view, Seen::Whole);
        }
    }
}

impl Tables {
    /// All that was counted between the two.
    pub(super) fn total(&self) -> Measures {
        let mut total = Measures::default();
        self.hours.iter().for_each(|hour| total.join(hour));
        total
    }

    pub(super) fn field(&self, wanted: Field) -> Option<&Table> {
        FIELDS.iter().zip(&self.fields).find(|(field, _)| **field == wanted).map(|(_, table)| table)
    }
}

/// When an hour of a day begins.
pub(super) fn hour_at(day: i64, hour: usize) -> UnixTime {
    let within = i64::try_from(hour).unwrap_or_default().saturating_mul(HOUR);
    UnixTime::from_nanos(day.saturating_mul(DAY).saturating_add(within))
}
