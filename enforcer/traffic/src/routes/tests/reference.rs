//! The compiled match against the rule as it stands on the page: every route that takes the call, the best by rank.
//!
//! The reference shares no code with the matcher: it splits strings, and knows patterns only as the texts they list.

use ca_identity::SpiffeId;

use super::*;
use crate::{ValueTest, ValuesSpec, Verdict};

/// One drawn route, as plain data.
#[derive(Debug, Clone)]
struct Drawn {
    host: String,
    path: Shape,
    method: Option<&'static str>,
    header: Option<(&'static str, bool)>,
    query: Option<&'static str>,
    who: Option<&'static str>,
    listener: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum Shape {
    Any,
    Exact(String),
    Prefix(String),
    Template(String),
    /// `/x.*` style: a first segment, and then anything.
    Regex(char, u32),
}

/// One drawn call.
#[derive(Debug, Clone)]
struct Asked {
    host: String,
    path: String,
    method: &'static str,
    headers: Vec<&'static str>,
    query: Vec<&'static str>,
    who: &'static str,
    listener: &'static str,
}

impl Drawn {
    fn spec(&self, n: usize) -> RouteSpec {
        let test = |value: &str| ValueTest::Exact(value.into());
        let matches = MatchSpec {
            hosts: if self.host.is_empty() { Vec::new() } else { vec![self.host.clone()] },
            path: match &self.path {
                Shape::Any => PathSpec::Any,
                Shape::Exact(path) => PathSpec::Exact(path.clone()),
                Shape::Prefix(path) => PathSpec::Prefix(path.clone()),
                Shape::Template(path) => PathSpec::Template(path.clone()),
                Shape::Regex(first, priority) => {
                    PathSpec::Regex { pattern: format!("/{first}.*"), priority: *priority }
                }
            },
            methods: self.method.map(Into::into).into_iter().collect(),
            headers: self
                .header
                .map(|(value, all)| ValuesSpec { name: "k".into(), test: test(value), all })
                .into_iter()
                .collect(),
            query: self
                .query
                .map(|value| ValuesSpec { name: "q".into(), test: test(value), all: false })
                .into_iter()
                .collect(),
            identities: self.who.map(|who| format!("spiffe://{who}")).into_iter().collect(),
            ..MatchSpec::default()
        };
        let listener = self.listener.map(Into::into);
        RouteSpec { matches, listener, ..route(&format!("r{n}")) }
    }

    /// Its rank for the call, when it takes it.
    fn rank(&self, asked: &Asked) -> Option<(usize, u8, usize, usize)> {
        let host = match self.host.strip_prefix("*.") {
            _ if self.host.is_empty() => 0,
            Some(suffix) if asked.host.ends_with(&format!(".{suffix}")) => suffix.len(),
            None if self.host == asked.host => usize::MAX,
            _ => return None,
        };
        let found: Vec<&str> = asked.path.split('/').skip(1).collect();
        let (class, depth) = match &self.path {
            Shape::Any => (0, 0),
            Shape::Exact(path) if *path == asked.path => (4, 0),
            Shape::Prefix(path) if asked.path == *path || asked.path.starts_with(&format!("{path}/")) => {
                (2, path.matches('/').count())
            }
            Shape::Template(path) => {
                let wanted: Vec<&str> = path.split('/').skip(1).collect();
                let fits = wanted.len() == found.len()
                    && wanted
                        .iter()
                        .zip(&found)
                        .all(|(w, f)| w == f || (w.starts_with('{') && !f.is_empty()));
                if !fits {
                    return None;
                }
                (3, wanted.iter().filter(|segment| !segment.starts_with('{')).count())
            }
            Shape::Regex(first, priority) if found[0].starts_with(*first) => (1, *priority as usize),
            _ => return None,
        };
        let mut count = 0;
        let mut hold = |is_asked: bool, holds: bool| {
            count += usize::from(is_asked);
            !is_asked || holds
        };
        let holds = [
            hold(self.method.is_some(), self.method == Some(asked.method)),
            hold(
                self.header.is_some(),
                self.header.is_some_and(|(value, all)| match all {
                    true => !asked.headers.is_empty() && asked.headers.iter().all(|one| *one == value),
                    false => asked.headers.contains(&value),
                }),
            ),
            hold(self.query.is_some(), self.query.is_some_and(|value| asked.query.contains(&value))),
            hold(
                self.who.is_some(),
                self.who.is_some_and(|who| match who.strip_suffix("/*") {
                    Some(above) => asked.who.starts_with(&format!("{above}/")),
                    None => {
                        who == asked.who || !who.contains('/') && asked.who.starts_with(&format!("{who}/"))
                    }
                }),
            ),
            hold(self.listener.is_some(), self.listener == Some(asked.listener)),
        ];
        holds.iter().all(|holds| *holds).then_some((host, class, depth, count))
    }
}

fn path() -> impl Strategy<Value = String> {
    "(/[xyz]){1,3}/?"
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let shape = prop_oneof![
        Just(Shape::Any),
        path().prop_map(Shape::Exact),
        "(/[xyz]){1,3}".prop_map(Shape::Prefix),
        "(/[xy]){0,1}/[{]a[}](/[xy])?(/[{]b[}])?".prop_map(Shape::Template),
        ("[xyz]", 1u32..3)
            .prop_map(|(first, priority)| Shape::Regex(first.chars().next().unwrap(), priority)),
    ];
    let header = proptest::option::of((prop_oneof![Just("1"), Just("2")], any::<bool>()));
    let who = proptest::option::of(prop_oneof![Just("a/w"), Just("a"), Just("a/n/*"), Just("b")]);
    let rare =
        |values: &'static [&'static str]| proptest::option::weighted(0.3, proptest::sample::select(values));
    (
        "([*][.])?[ab]([.][ab])?|",
        shape,
        rare(&["GET", "POST"]),
        header,
        rare(&["1", "2"]),
        who,
        rare(&["l", "m"]),
    )
        .prop_map(|(host, path, method, header, query, who, listener)| Drawn {
            host,
            path,
            method,
            header,
            query,
            who,
            listener,
        })
}

fn asked() -> impl Strategy<Value = Asked> {
    let some = || proptest::collection::vec(prop_oneof![Just("1"), Just("2")], 0..3);
    let who = prop_oneof![Just("a/w"), Just("a/n/x"), Just("a/nx"), Just("b/w"), Just("c/w")];
    let (method, listener) =
        (prop_oneof![Just("GET"), Just("POST")], prop_oneof![Just("l"), Just("m"), Just("n")]);
    ("([ab][.]){0,2}[ab]", path(), method, some(), some(), who, listener).prop_map(
        |(host, path, method, headers, query, who, listener)| Asked {
            host,
            path,
            method,
            headers,
            query,
            who,
            listener,
        },
    )
}

fn call_of(asked: &Asked) -> Call {
    let pairs: Vec<_> = asked.query.iter().map(|value| format!("q={value}")).collect();
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
    let mut builder = http::Request::builder()
        .version(http::Version::HTTP_2)
        .method(asked.method)
        .uri(format!("https://{}{}{query}", asked.host, asked.path));
    for value in &asked.headers {
        builder = builder.header("k", *value);
    }
    Call::from_parts(&builder.body(()).unwrap().into_parts().0, true, &Transport::new(Scheme::Https)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rt_02_the_compiled_match_is_the_best_of_all_that_match(drawn in proptest::collection::vec(drawn(), 1..10), calls in proptest::collection::vec(asked(), 1..12)) {
        // Routes that meet at equal rank are no configuration; the others of the draw are one.
        let (mut specs, mut kept): (Vec<RouteSpec>, Vec<(usize, Drawn)>) = (Vec::new(), Vec::new());
        for (n, one) in drawn.into_iter().enumerate() {
            specs.push(one.spec(n));
            if build(&specs).is_err() { specs.pop(); } else { kept.push((n, one)); }
        }
        let routes = build(&specs).unwrap();
        for asked in calls {
            let id = SpiffeId::parse(&format!("spiffe://{}", asked.who)).unwrap();
            let arrival = Arrival { identity: Some(&id), ..over(asked.listener) };
            let ranks = || kept.iter().filter_map(|(n, drawn)| Some((drawn.rank(&asked)?, n)));
            let best = ranks().max();
            let expected = best.map_or("unknown route".to_owned(), |(_, n)| format!("r{n}"));
            let call = call_of(&asked);
            prop_assert_eq!(find_at(&routes, &call, &arrival), expected, "{:?} {:?}", &asked, &kept);
            // No order was left open: the best rank is that of one route.
            prop_assert!(ranks().filter(|(rank, _)| Some(*rank) == best.map(|(rank, _)| rank)).count() <= 1, "{:?} {:?}", &asked, &kept);
            let standings = routes.explain(&call, &arrival).unwrap();
            let matching = standings.iter().filter(|standing| !matches!(standing.verdict, Verdict::Unmet(_)));
            prop_assert_eq!(matching.count(), ranks().count(), "what is explained is what is so");
        }
    }
}
