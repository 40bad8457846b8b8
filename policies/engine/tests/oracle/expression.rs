//! Random conditions that mostly pass strict validation: typed trees over what a policy of that scope can see, with
//! guards where an attribute is optional. Trees, so that a failure can be made small.

use crate::{leaf::Leaf, scope::Scope, support::dice::Dice, words};
use std::fmt::Write;

/// Type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Long,
    Text,
    Ip,
    Decimal,
    Moment,
    Span,
    Texts,
    Longs,
    Protocol,
}

/// An expression: pieces of text with expressions between them.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) kind: Type,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub(crate) enum Part {
    Text(String),
    Inner(Expr),
}

impl From<&str> for Part {
    fn from(text: &str) -> Part {
        Part::Text(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Part {
        Part::Text(text)
    }
}

impl From<Expr> for Part {
    fn from(inner: Expr) -> Part {
        Part::Inner(inner)
    }
}

macro_rules! expr {
    ($kind:ident: $($part:expr),+ $(,)?) => { Expr { kind: Type::$kind, parts: vec![$(Part::from($part)),+] } };
}

impl Expr {
    pub(crate) fn constant(kind: Type) -> Vec<Expr> {
        let texts: &[&str] = match kind {
            Type::Bool => &["true", "false"],
            Type::Long => &["0", "1"],
            Type::Text => &["\"\""],
            Type::Ip => &["ip(\"10.0.0.1\")"],
            Type::Decimal => &["decimal(\"0.0\")"],
            Type::Moment => &["datetime(\"2026-01-01\")"],
            Type::Span => &["duration(\"0ms\")"],
            Type::Texts => &["[\"a\"]"],
            Type::Longs => &["[1]"],
            Type::Protocol => &["Protocol::\"h1\""],
        };
        texts.iter().map(|text| Expr { kind, parts: vec![Part::from(*text)] }).collect()
    }

    pub(crate) fn write(&self, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Inner(inner) => inner.write(out),
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// Makes expressions for one policy.
pub(crate) struct Maker<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) scope: &'a Scope,
    /// Guards that hold where the next expression will stand.
    held: Vec<String>,
    /// What our engine leaves to stock Cedar may occur.
    is_slow: bool,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(dice: &'a mut Dice, scope: &'a Scope, is_slow: bool) -> Maker<'a> {
        Maker { dice, scope, held: Vec::new(), is_slow }
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.dice.below(of) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.dice.below(from.len())]
    }

    pub(crate) fn bool(&mut self, depth: usize) -> Expr {
        if depth == 0 {
            return match self.dice.below(12) {
                0 => self.constant(Type::Bool),
                1..5 => self.entities(),
                5 => self.presence(),
                _ => self.about_leaf(0),
            };
        }
        match self.dice.below(20) {
            0..4 => expr!(Bool: "(", self.bool(depth - 1), " && ", self.bool(depth - 1), ")"),
            4..8 => expr!(Bool: "(", self.bool(depth - 1), " || ", self.bool(depth - 1), ")"),
            8 | 9 => expr!(Bool: "!(", self.bool(depth - 1), ")"),
            10 => self.branch(Type::Bool, depth),
            11 => {
                let sides = (self.bool(depth - 1), self.bool(depth - 1));
                expr!(Bool: "(", sides.0, self.pick(&[" == ", " != "]), sides.1, ")")
            }
            12 | 13 => self.entities(),
            14 if self.is_slow => self.records(depth),
            _ => self.about_leaf(depth - 1),
        }
    }

    fn constant(&mut self, kind: Type) -> Expr {
        let mut all = Expr::constant(kind);
        all.swap_remove(self.dice.below(all.len()))
    }

    /// A test of one thing the policy can see, behind its guards.
    fn about_leaf(&mut self, depth: usize) -> Expr {
        // No fact is of these types; a site's own entities may be.
        if self.one_in(30) {
            let kind = self.pick(&[Type::Decimal, Type::Longs]);
            let subject = self.value(kind, 0);
            return self.test(subject, depth);
        }
        let scope = self.scope;
        // Any, or one of a kind that errs or has a method for everything.
        let kind =
            [Type::Long, Type::Long, Type::Moment, Type::Texts, Type::Ip].get(self.dice.below(9)).copied();
        let all: Vec<&Leaf> =
            scope.leaves.iter().filter(|leaf| kind.is_none_or(|kind| kind == leaf.kind)).collect();
        let Some(leaf) = all.get(self.dice.below(all.len())) else { return self.entities() };
        let missing: Vec<String> =
            leaf.guards.iter().filter(|guard| !self.held.contains(guard)).cloned().collect();
        // Now and then the guard is forgotten: strict validation drops the policy, or it is right about it.
        let missing = if self.one_in(60) { Vec::new() } else { missing };
        let held = self.held.len();
        self.held.extend(missing.iter().cloned());
        let subject = Expr { kind: leaf.kind, parts: vec![Part::from(leaf.text.clone())] };
        let mut test = self.test(subject, depth);
        self.held.truncate(held);
        for guard in missing.into_iter().rev() {
            test = expr!(Bool: "(", Expr { kind: Type::Bool, parts: vec![Part::from(guard)] }, " && ", test, ")");
        }
        test
    }

    /// A condition over `subject`.
    fn test(&mut self, subject: Expr, depth: usize) -> Expr {
        let kind = subject.kind;
        if kind == Type::Bool {
            return if self.one_in(3) { expr!(Bool: "!", subject) } else { subject };
        }
        if self.one_in(5) {
            let other = self.value(kind, depth);
            return expr!(Bool: "(", subject, self.pick(&[" == ", " != "]), other, ")");
        }
        let order = [" < ", " <= ", " > ", " >= "];
        match kind {
            Type::Long => {
                let subject = if self.one_in(2) { self.sum(subject, depth) } else { subject };
                expr!(Bool: "(", subject, self.pick(&order), self.value(kind, depth), ")")
            }
            Type::Moment | Type::Span => {
                expr!(Bool: "(", subject, self.pick(&order), self.value(kind, depth), ")")
            }
            Type::Text if self.one_in(3) => {
                expr!(Bool: "[", self.element(kind, depth), ", ", self.element(kind, depth), "].contains(", subject, ")")
            }
            Type::Text => expr!(Bool: "(", subject, " like ", self.pattern(), ")"),
            Type::Ip => match self.dice.below(5) {
                0 => {
                    expr!(Bool: subject, self.pick(&[".isIpv4()", ".isIpv6()", ".isLoopback()", ".isMulticast()"]))
                }
                1 => expr!(Bool: self.value(kind, 0), ".isInRange(", subject, ")"),
                _ => expr!(Bool: subject, ".isInRange(", self.value(kind, 0), ")"),
            },
            Type::Decimal => {
                let method = self.pick(&["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"]);
                expr!(Bool: subject, format!(".{method}("), self.value(kind, 0), ")")
            }
            Type::Texts => match self.dice.below(6) {
                0 => expr!(Bool: subject, ".isEmpty()"),
                1 => expr!(Bool: subject, ".containsAll(", self.value(kind, depth), ")"),
                2 => expr!(Bool: subject, ".containsAny(", self.value(kind, depth), ")"),
                3 => {
                    expr!(Bool: "[", self.element(kind, depth), ", ", self.element(kind, depth), "].contains(", subject, ")")
                }
                _ => expr!(Bool: subject, ".contains(", self.value(Type::Text, depth), ")"),
            },
            Type::Longs => match self.dice.below(4) {
                0 => expr!(Bool: subject, ".containsAny(", self.value(kind, depth), ")"),
                1 => expr!(Bool: subject, ".containsAll(", self.value(kind, depth), ")"),
                _ => expr!(Bool: subject, ".contains(", self.value(Type::Long, depth), ")"),
            },
            Type::Protocol if self.one_in(2) => {
                let all = words::protocols(self.dice);
                expr!(Bool: format!("[{all}].contains("), subject, ")")
            }
            Type::Protocol => expr!(Bool: "(", subject, format!(" in [{}])", words::protocols(self.dice))),
            Type::Bool => subject,
        }
    }

    /// An expression of that type.
    pub(crate) fn value(&mut self, kind: Type, depth: usize) -> Expr {
        if kind == Type::Bool {
            return self.bool(depth);
        }
        if depth > 0 && self.one_in(8) {
            return self.branch(kind, depth);
        }
        let is_set = matches!(kind, Type::Texts | Type::Longs);
        if self.one_in(3)
            && (self.is_slow || !is_set)
            && let Some(seen) = self.seen(kind, depth)
        {
            return seen;
        }
        match kind {
            Type::Long if depth > 0 && self.one_in(2) => {
                let first = self.value(kind, depth - 1);
                self.sum(first, depth - 1)
            }
            Type::Long if depth > 0 && self.one_in(6) => {
                let method = self.pick(&["toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays"]);
                expr!(Long: self.value(Type::Span, depth - 1), format!(".{method}()"))
            }
            Type::Long => expr!(Long: words::long(self.dice)),
            Type::Text => expr!(Text: words::quoted(self.dice)),
            Type::Ip => expr!(Ip: format!("ip(\"{}\")", words::network(self.dice))),
            Type::Decimal => expr!(Decimal: format!("decimal(\"{}\")", words::decimal(self.dice))),
            Type::Moment if depth > 0 && self.one_in(2) => match self.one_in(4) {
                true => expr!(Moment: self.value(kind, depth - 1), ".toDate()"),
                false => {
                    expr!(Moment: self.value(kind, depth - 1), ".offset(", self.value(Type::Span, depth - 1), ")")
                }
            },
            Type::Moment => expr!(Moment: format!("datetime(\"{}\")", words::moment(self.dice))),
            Type::Span if depth > 0 && self.one_in(2) => match self.one_in(3) {
                true => expr!(Span: self.value(Type::Moment, depth - 1), ".toTime()"),
                false => {
                    let (first, second) =
                        (self.value(Type::Moment, depth - 1), self.value(Type::Moment, depth - 1));
                    expr!(Span: first, ".durationSince(", second, ")")
                }
            },
            Type::Span => expr!(Span: format!("duration(\"{}\")", words::span(self.dice))),
            Type::Texts | Type::Longs => {
                let of = if kind == Type::Texts { Type::Text } else { Type::Long };
                let mut parts = vec![Part::from("[")];
                for at in 0..=self.dice.below(3) {
                    parts.extend((at > 0).then(|| Part::from(", ")));
                    parts.push(self.element(of, depth).into());
                }
                parts.push("]".into());
                Expr { kind, parts }
            }
            Type::Protocol => expr!(Protocol: words::protocol(self.dice)),
            Type::Bool => self.bool(depth),
        }
    }

    /// An element of a set: a literal, unless the policy may be slow; sets of what calls bring are not compiled.
    fn element(&mut self, kind: Type, depth: usize) -> Expr {
        match kind {
            Type::Text if !self.is_slow => expr!(Text: words::quoted(self.dice)),
            Type::Long if !self.is_slow => expr!(Long: words::long(self.dice)),
            _ => self.value(kind, depth.saturating_sub(1)),
        }
    }

    /// Something of that type that the policy can see; what may be absent stands in a branch.
    fn seen(&mut self, kind: Type, depth: usize) -> Option<Expr> {
        let scope = self.scope;
        let fitting: Vec<&Leaf> = scope.leaves.iter().filter(|leaf| leaf.kind == kind).collect();
        let leaf = *fitting.get(self.dice.below(fitting.len()))?;
        let missing: Vec<&String> = leaf.guards.iter().filter(|guard| !self.held.contains(guard)).collect();
        let subject = Expr { kind, parts: vec![Part::from(leaf.text.clone())] };
        if missing.is_empty() {
            return Some(subject);
        }
        let mut guards = String::new();
        for (at, guard) in missing.iter().enumerate() {
            let and = if at == 0 { "" } else { " && " };
            write!(guards, "{and}{guard}").ok()?;
        }
        let other = self.value(kind, depth.saturating_sub(1));
        let guards = Expr { kind: Type::Bool, parts: vec![guards.into()] };
        Some(Expr {
            kind,
            parts: vec![
                "(if ".into(),
                guards.into(),
                " then ".into(),
                subject.into(),
                " else ".into(),
                other.into(),
                ")".into(),
            ],
        })
    }

    fn sum(&mut self, first: Expr, depth: usize) -> Expr {
        let other = match self.one_in(2) {
            true => expr!(Long: words::extreme(self.dice)),
            false => self.value(Type::Long, depth),
        };
        match self.dice.below(7) {
            0..2 => expr!(Long: "(", first, " + ", other, ")"),
            2..4 => expr!(Long: "(", other, " - ", first, ")"),
            4..6 => expr!(Long: "(", first, " * ", other, ")"),
            _ => expr!(Long: "(-", first, ")"),
        }
    }

    fn branch(&mut self, kind: Type, depth: usize) -> Expr {
        let condition = self.bool(depth - 1);
        let (yes, no) = (self.value(kind, depth - 1), self.value(kind, depth - 1));
        let parts = vec![
            "(if ".into(),
            condition.into(),
            " then ".into(),
            yes.into(),
            " else ".into(),
            no.into(),
            ")".into(),
        ];
        Expr { kind, parts }
    }

    /// Where principal, action and resource stand.
    fn entities(&mut self) -> Expr {
        let all = &self.scope.relations;
        let text = match all.get(self.dice.below(all.len())) {
            Some(relation) => relation(self.dice),
            None => "true".to_owned(),
        };
        expr!(Bool: text)
    }

    /// Whether something is there.
    fn presence(&mut self) -> Expr {
        let alone = |leaf: &&Leaf| leaf.guards.len() == 1;
        let all: Vec<&Leaf> = self.scope.leaves.iter().filter(alone).collect();
        match all.get(self.dice.below(all.len())) {
            Some(leaf) => expr!(Bool: leaf.guards[0].clone()),
            None => self.entities(),
        }
    }

    /// Records stand for everything that our engine leaves to stock Cedar.
    fn records(&mut self, depth: usize) -> Expr {
        match self.dice.below(6) {
            0 => {
                let [a, b, c, d] = [(); 4].map(|()| self.value(Type::Long, depth - 1));
                expr!(Bool: "({a: ", a, ", b: ", b, "} == {a: ", c, ", b: ", d, "})")
            }
            1 => expr!(Bool: "({a: ", self.bool(depth - 1), ", b: \"x\"}.a)"),
            2 => expr!(Bool: "(context.connection == context.connection)"),
            _ => self.about_leaf(depth - 1),
        }
    }

    fn pattern(&mut self) -> String {
        let mut out = String::from("\"");
        for _ in 0..=self.dice.below(4) {
            match self.dice.below(3) {
                0 => out.push('*'),
                1 => out.push_str(&words::escaped(self.dice).replace('*', "\\*")),
                _ => {
                    let word = words::escaped(self.dice);
                    let cut: String = word.chars().filter(|c| !"\\*\"{}".contains(*c)).take(2).collect();
                    out.push_str(&cut);
                }
            }
        }
        out.push('"');
        out
    }
}
